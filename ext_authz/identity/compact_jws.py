"""A compact JWS taken apart, without believing it (RFC 7515 section 7.1).

PyJWT accepts more than one spelling of a token and duplicate keys in it; whoever reads the token
next might take the other spelling or the other key. This module refuses both before PyJWT sees it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ext_authz.secret import Secret
from ext_authz.strict_json import NotStrictJson, parse_object

MAX_JWS_LENGTH: Final = 16 * 1024
# Headers that name or carry a key, or change what is signed: the sender must not choose those.
REFUSED_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_MAX_KEY_ID_LENGTH: Final = 256


class NotCompactJws(ValueError):
    """Not a compact JWS that we read; the message names the rule and never quotes the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedJws:
    """Header and claims as the token states them. Only good for choosing a key and for refusing."""

    header: Mapping[str, object]
    claims: Mapping[str, object]
    algorithm: str
    key_id: str | None


def take_apart(token: Secret) -> UnverifiedJws:
    """The parts of `token`; raises `NotCompactJws`."""
    text = token.reveal()
    segments = text.split(".")
    if len(text) > MAX_JWS_LENGTH or len(segments) != len(("header", "payload", "signature")):
        raise NotCompactJws("not three segments of bounded length")
    header, claims = _object(segments[0]), _object(segments[1])
    _bytes(segments[2])
    if REFUSED_HEADERS & header.keys():
        raise NotCompactJws("a header that names its own key or changes what is signed")
    return UnverifiedJws(
        header=header, claims=claims, algorithm=_algorithm(header), key_id=_key_id(header)
    )


def _object(segment: str) -> dict[str, object]:
    try:
        return parse_object(_bytes(segment))
    except NotStrictJson as error:
        raise NotCompactJws(str(error)) from None


def _bytes(segment: str) -> bytes:
    """Base64url without padding, and only its one canonical spelling (RFC 7515 section 2)."""
    try:
        value = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if not value or base64.urlsafe_b64encode(value).rstrip(b"=").decode() != segment:
        raise NotCompactJws("not canonical base64url")
    return value


def _algorithm(header: Mapping[str, object]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise NotCompactJws("alg is not a text")
    return algorithm


def _key_id(header: Mapping[str, object]) -> str | None:
    if "kid" not in header:
        return None
    key_id = header["kid"]
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _MAX_KEY_ID_LENGTH:
        raise NotCompactJws("kid is not a text of bounded length")
    return key_id
