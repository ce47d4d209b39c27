"""The public keys of one issuer: fetched with care, kept through its outages, never guessed.

Keys are fetched anew behind the requests that use them, and before one that would use stale ones. A
failed fetch keeps the last good keys until they are `KEEP_SECONDS` old; an unknown `kid` causes
one fetch in `COOLDOWN_SECONDS` however many ask; one unusable key does not lose the others.
"""

from collections.abc import Mapping
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from ext_authz.clock import Clock
from ext_authz.identity.issuer_metadata import (
    IssuerMetadata,
    MetadataInvalid,
    MetadataUnavailable,
)
from ext_authz.outbound import Outbound, OutboundError
from ext_authz.single_flight import SingleFlight
from ext_authz.strict_json import NotStrictJson, parse_object

FRESH_SECONDS: Final = 300
STALE_SECONDS: Final = 900
KEEP_SECONDS: Final = 24 * 3600
COOLDOWN_SECONDS: Final = 30
MAX_KEYS: Final = 100
_MIN_RSA_BITS: Final = 2048
_KEY_TYPES: Final = ("EC", "RSA", "OKP")  # never "oct": a public secret is no secret
_OK: Final = 200
_FETCH: Final = "keys"


class KeysUnavailable(Exception):
    """No keys are at hand; the message names the kind of fault."""


class IssuerKeys:
    """The signature keys of one issuer, by `kid`."""

    def __init__(
        self, metadata: IssuerMetadata, jwks_uri: str | None, outbound: Outbound, clock: Clock
    ) -> None:
        self._metadata = metadata
        self._jwks_uri = jwks_uri
        self._outbound = outbound
        self._clock = clock
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._flight: SingleFlight[None] = SingleFlight()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key named `key_id`; for None the only key there is. None where there is no such key.

        Raises `KeysUnavailable` where no keys could be had at all.
        """
        key = self._lookup(key_id)
        if key is None or self._age() > STALE_SECONDS:
            await self._refresh_within_cooldown()
        elif self._age() > FRESH_SECONDS and self._may_fetch():
            self._flight.begin(_FETCH, self._refresh)  # nobody waits while the old ones serve
        if not self._keys or self._age() > KEEP_SECONDS:
            raise KeysUnavailable("the issuer's keys cannot be fetched")
        return self._lookup(key_id)

    def _lookup(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    async def _refresh_within_cooldown(self) -> None:
        if self._may_fetch() or len(self._flight):
            await self._flight.run(_FETCH, self._refresh)

    def _may_fetch(self) -> bool:
        return self._clock.monotonic() - self._tried_at >= COOLDOWN_SECONDS

    async def _refresh(self) -> None:
        self._tried_at = self._clock.monotonic()
        try:
            keys = await self._fetch()
        except (OutboundError, NotStrictJson, MetadataUnavailable, MetadataInvalid):
            keys = {}
        if keys:
            self._keys = keys
            self._fetched_at = self._clock.monotonic()
        elif not self._keys:
            self._tried_at = float("-inf")  # nothing to live on meanwhile: the next one may try

    async def _fetch(self) -> Mapping[str | None, jwt.PyJWK]:
        reply = await self._outbound.get(await self._location())
        if reply.status != _OK:
            return {}
        members = parse_object(reply.body).get("keys")
        return _usable_keys(members if isinstance(members, list) else [])

    async def _location(self) -> str:
        if self._jwks_uri is not None:
            return self._jwks_uri
        return await self._metadata.address("jwks_uri")


def _usable_keys(members: list[object]) -> Mapping[str | None, jwt.PyJWK]:
    keys: dict[str | None, jwt.PyJWK] = {}
    for member in members[:MAX_KEYS]:
        key = _key(member) if isinstance(member, dict) else None
        if key is not None:
            keys.setdefault(key.key_id, key)
    return keys


def _key(member: dict[str, object]) -> jwt.PyJWK | None:
    """The key, where it is an asymmetric one for signatures and strong enough."""
    if member.get("kty") not in _KEY_TYPES or member.get("use", "sig") != "sig":
        return None
    if not isinstance(member.get("kid", ""), str):
        return None
    try:
        key = jwt.PyJWK({name: value for name, value in member.items() if name != "d"})
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    is_weak = isinstance(key.key, rsa.RSAPublicKey) and key.key.key_size < _MIN_RSA_BITS
    return None if is_weak else key
