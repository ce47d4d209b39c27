"""An access token as the bytes that are sealed, and back: one strict format, nothing optional.

Another replica wrote it, of another version perhaps, whose clock may differ from ours.
"""

from typing import Any, Final, NoReturn

import orjson

from ext_authz.clock import Clock
from ext_authz.exchange.access_token import MAX_AGE_SECONDS, AccessToken, Lasting, Source
from ext_authz.exchange.token_answer import token_of
from ext_authz.exchange.token_endpoint import AnswerInvalid
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.settings.settings import McpServer
from ext_authz.strict_json import NotStrictJson, parse_object

MAX_CLOCK_DIFFERENCE: Final = 60  # seconds by which the one who fetched it may be ahead
_LATEST: Final = 2**53  # seconds: what every reader of JSON keeps exactly
_DIGEST_BYTES: Final = 32
_TYPES: Final[dict[str, type]] = {
    "access_token": str,
    "issuer": str,
    "subject": str,
    "resource": str,
    "scope": list,
    "expires_at": int,
    "id_jag_jti": str,
    "id_jag_digest": str,
    "fetched_at": int,
    "until": int,
}


class Unusable(Exception):
    """Nothing that could have been kept for this user and server; the message is a code for the log."""


class FromTheFuture(Exception):
    """Fetched later than it is: the clocks of two replicas differ too much."""


def packed(lasting: Lasting, clock: Clock) -> bytes:
    """The JSON of a token that may be kept for so many seconds from now."""
    token, now = lasting.token, clock.wall()
    members = {
        "access_token": token.value.reveal(),
        "issuer": token.issuer,
        "subject": token.subject,
        "resource": token.resource,
        "scope": token.scope,
        "expires_at": token.expires_at,
        "id_jag_jti": token.id_jag_jti,
        "id_jag_digest": (token.id_jag_digest or b"").hex(),
        "fetched_at": int(now),
        "until": int(now + lasting.seconds),
    }
    return orjson.dumps(members)


def unpacked(
    packed: bytes, user: VerifiedUser, server: McpServer, clock: Clock, *, seconds: float
) -> Lasting:
    """The token that another replica keeps for `user` at `server`, which lasts `seconds` at most.

    Lasts for nothing (0 or less) where its time is over. Raises `Unusable` or `FromTheFuture`.
    """
    members = _members(packed)
    _refuse_others(members, user, server)
    _refuse_too_long(members)
    now = clock.wall()
    if members["fetched_at"] > now + MAX_CLOCK_DIFFERENCE:
        raise FromTheFuture
    left = min(seconds, members["until"] - now, MAX_AGE_SECONDS)
    return Lasting(token=_token(members), seconds=left)


def _members(packed: bytes) -> dict[str, Any]:
    try:
        members = parse_object(packed)
    except NotStrictJson:
        _refuse("malformed")
    if members.keys() != _TYPES.keys():
        _refuse("malformed")
    if any(type(members[name]) is not kind for name, kind in _TYPES.items()):
        _refuse("malformed")
    return members


def _refuse_others(members: dict[str, Any], user: VerifiedUser, server: McpServer) -> None:
    whose = (members["issuer"], members["subject"], members["resource"])
    if whose != (user.issuer, user.subject, server.resource):
        _refuse("of_another")
    if not all(isinstance(scope, str) for scope in members["scope"]):
        _refuse("malformed")
    if server.scopes and not set(members["scope"]) <= set(server.scopes):
        _refuse("too_wide")


def _refuse_too_long(members: dict[str, Any]) -> None:
    fetched, until, expires = (members[name] for name in ("fetched_at", "until", "expires_at"))
    if not 0 < fetched <= until <= expires <= _LATEST or until > fetched + MAX_AGE_SECONDS:
        _refuse("too_long")


def _token(members: dict[str, Any]) -> AccessToken:
    try:
        value = token_of(members)
        digest = bytes.fromhex(members["id_jag_digest"])
    except (AnswerInvalid, ValueError):
        _refuse("malformed")
    if len(digest) not in {0, _DIGEST_BYTES}:
        _refuse("malformed")
    return AccessToken(
        value=value,
        issuer=members["issuer"],
        subject=members["subject"],
        resource=members["resource"],
        scope=tuple(members["scope"]),
        expires_at=members["expires_at"],
        id_jag_jti=members["id_jag_jti"],
        source=Source.CACHE,
        id_jag_digest=digest or None,
    )


def _refuse(code: str) -> NoReturn:
    raise Unusable(code) from None
