"""Tokens as a provider writes them, and as nobody should."""

import base64
import json
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import jwt

from tests.doubles.signing_keys import SigningKey


class Absent(Enum):
    """As a change: leaves the member out."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
Part = Mapping[str, object] | bytes  # raw bytes for what no JSON writer would write
Sign = Callable[[bytes], bytes]


def changed(members: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """`members` with `changes`, where `ABSENT` takes a member away."""
    return {name: value for name, value in {**members, **changes}.items() if value is not ABSENT}


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def compact(header: Part, payload: Part, sign: Sign) -> str:
    """A compact JWS of these parts, whatever they are."""
    message = f"{base64url(_bytes(header))}.{base64url(_bytes(payload))}"
    return f"{message}.{base64url(sign(message.encode()))}"


def header_of(key: SigningKey, **changes: object) -> dict[str, object]:
    return changed({"alg": key.algorithm, "kid": key.key_id}, changes)


def id_token_claims(issuer: str, now: int, **changes: object) -> dict[str, object]:
    """Those of an ID token that nothing is wrong with."""
    claims = {
        "iss": issuer,
        "sub": "alice",
        "aud": "hub",
        "iat": now,
        "exp": now + 3600,
        "sid": "session-1",
        "acr": "mfa",
    }
    return changed(claims, changes)


def id_token(
    key: SigningKey,
    issuer: str,
    now: int,
    header: Mapping[str, object] | None = None,
    /,
    **changes: object,
) -> str:
    """A good ID token; `header` and `changes` make it a bad one."""
    claims = id_token_claims(issuer, now, **changes)
    return compact(header_of(key, **(header or {})), claims, key.sign)


def claims_of(token: str) -> dict[str, Any]:
    """What `token` says, believed without proof."""
    return jwt.decode(token, options={"verify_signature": False})


def _bytes(part: Part) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()
