"""Which request headers must not reach the MCP server.

A gateway that vouches for identity must not pass on anybody else's claims of it, nor its caller's
credentials: neither in the names that servers trust, nor in spellings that some servers fold into
those names.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from ext_authz.request.facts import RequestFacts
from ext_authz.secret import Secret

OUR_PREFIX: Final = "x-mcp-ext-authz-"
# Named whether the client sent them or not: Envoy removes what it finds.
ALWAYS_REMOVED: Final = (
    "cookie",
    "dpop",
    "proxy-authorization",
    "remote-user",
    "x-access-token",
    "x-auth-request-access-token",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-user",
    "x-envoy-auth-failure-mode-allowed",
    "x-envoy-auth-partial-body",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-id-token",
    "x-remote-user",
    "x-user-email",
    "x-user-id",
)
_PREFIXES: Final = (
    OUR_PREFIX,
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-ms-token-",
)
_FOLDED: Final = str.maketrans("_.", "--")


def headers_to_remove(facts: RequestFacts, user_token: Secret) -> Sequence[str]:
    """The names to remove; never `authorization` itself, which is overwritten.

    Envoy removes after it sets, so a name in both would be gone.
    """
    token = user_token.reveal()
    found = {
        name
        for name, value in facts.headers.items()
        if _is_identity(name) or (_holds(value, token) and name != "authorization")
    }
    # Envoy does not let pseudo-headers be removed; a token in one was refused before.
    found = {name for name in found if not name.startswith(":")}
    return sorted(found.union(ALWAYS_REMOVED)) if found else ALWAYS_REMOVED


def _holds(value: str, token: str) -> bool:
    return token in value or ("%" in value and token in unquote(value))


@lru_cache(maxsize=1024)
def _is_identity(name: str) -> bool:
    if name == "authorization":
        return False
    folded = name.translate(_FOLDED)
    return folded == "authorization" or folded in ALWAYS_REMOVED or folded.startswith(_PREFIXES)
