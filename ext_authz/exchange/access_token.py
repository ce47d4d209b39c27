"""An access token, and how long it may be kept."""

import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ext_authz.leg import Leg
from ext_authz.secret import Secret

MARGIN_SECONDS: Final = 30  # a token must outlive the request that carries it, and clocks differ
MAX_AGE_SECONDS: Final = 3600  # the identity provider's word is asked for again at least hourly


class Source(StrEnum):
    """How an access token was come by."""

    CACHE = "cache"
    EXCHANGE = "exchange"
    JOINED = "joined"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """What leg 2 returned, for one user at one server. `expires_at` is in wall-clock seconds.

    `legs` are the requests that were made for it now: none where it came from the cache, unless it
    was renewed ahead, and this is its first use.
    `id_jag_digest` is the SHA-256 of the ID-JAG, which itself is never kept.
    """

    value: Secret
    issuer: str
    subject: str
    resource: str
    scope: tuple[str, ...]
    expires_at: int
    id_jag_jti: str
    source: Source
    legs: tuple[Leg, ...] = ()
    id_jag_digest: bytes | None = field(default=None, repr=False)


def weight(token: AccessToken) -> int:
    """The bytes that keeping `token` takes, beside what each entry of the cache does."""
    texts = (token.subject, token.id_jag_jti, *token.scope)
    return token.value.length() + sum(map(sys.getsizeof, texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """A token, and for how many seconds from now it may be kept."""

    token: AccessToken
    seconds: float


def keep_seconds(lifetime: float) -> float:
    """For how long a token is kept that has so many seconds to live."""
    return min(lifetime - min(MARGIN_SECONDS, lifetime / 10), MAX_AGE_SECONDS)
