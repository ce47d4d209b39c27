"""The user token of a request: from `Authorization`, and from nowhere else."""

import re
from typing import Final
from urllib.parse import unquote

from ext_authz.reasons import Denied, Reason
from ext_authz.request.facts import RequestFacts
from ext_authz.secret import Secret

MAX_TOKEN_LENGTH: Final = 16 * 1024
# RFC 6750 section 2.1, the alphabet narrowed to a compact JWS: it holds no `,`, so that two headers
# joined by Envoy are no token, and no padding, so that one token has one spelling.
_BEARER: Final = re.compile(
    r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)"
)


def user_token(facts: RequestFacts) -> Secret:
    """The Bearer token. Raises `Denied` with TOKEN_MISSING or TOKEN_MALFORMED.

    A token that stands in the URL too would reach the MCP server there: refused (MCP
    authorization, "Access Token Usage").
    """
    header = facts.headers.get("authorization", "")
    if not header:
        raise Denied(Reason.TOKEN_MISSING)
    if len(header) > MAX_TOKEN_LENGTH:
        raise Denied(Reason.TOKEN_MALFORMED, "longer than any token")
    found = _BEARER.fullmatch(header)
    if not found:
        raise Denied(Reason.TOKEN_MALFORMED, "not one Bearer JWT")
    if _stands_in_url(found[1], facts):
        raise Denied(Reason.TOKEN_MALFORMED, "the token stands in the URL")
    return Secret(found[1])


def _stands_in_url(token: str, facts: RequestFacts) -> bool:
    """In any part of it, the host included, as it is or percent-encoded."""
    url = unquote(f"{facts.host} {facts.path} {facts.query}")
    return token.lower() in url.lower()  # hosts are kept in lower case
