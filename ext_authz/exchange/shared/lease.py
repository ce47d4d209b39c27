"""What is asked of the shared server: each question one Lua script, so that nothing comes in between.

A lease is the right to make the one exchange for a cache key. It ends by itself unless its holder
renews it, and whoever has lost it can keep nothing: a newer value is never overwritten by an older.
Every script works on names of tokens and of leases, ours first and then the previous key's, so that
replicas find each other's while keys are being changed. What the server answers is not trusted.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from ext_authz.exchange.shared.breaker import Argument, Breaker, Unavailable

LEASE_SECONDS: Final = 1.5  # how long a holder that died keeps the others waiting
RENEW_SECONDS: Final = 0.4
MAX_SEALED: Final = 64 * 1024
_MAX_NAMES: Final = 1000  # that one call deletes
_OWNER_BYTES: Final = 16
_TOKEN: Final = "mcp-ext-authz:token:"
_LEASE: Final = "mcp-ext-authz:lease:"

# owner, milliseconds, most bytes, values that will not do
_CLAIM: Final = """
local half = #KEYS / 2
for i = 1, half do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if kind == 'string' and redis.call('STRLEN', KEYS[i]) <= tonumber(ARGV[3]) then
        local value, will_do = redis.call('GET', KEYS[i]), true
        for j = 4, #ARGV do will_do = will_do and value ~= ARGV[j] end
        if will_do then return {'found', value, redis.call('PTTL', KEYS[i])} end
    elseif kind ~= 'none' then
        redis.call('DEL', KEYS[i])
        return {'odd'}
    end
end
for i = half + 1, #KEYS do
    local left = redis.call('PTTL', KEYS[i])
    if left >= 0 and left <= tonumber(ARGV[2]) then return {'busy'} end  -- a longer one is nobody's
end
redis.call('SET', KEYS[half + 1], ARGV[1], 'PX', ARGV[2])
return {'ours'}
"""
# owner, milliseconds
_RENEW: Final = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
# owner, milliseconds, value
_KEEP: Final = """
local half = #KEYS / 2
if redis.pcall('GET', KEYS[half + 1]) ~= ARGV[1] then return 0 end
for i = 2, half do redis.call('DEL', KEYS[i]) end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
redis.call('DEL', KEYS[half + 1])
return 1
"""
# owner
_RELEASE: Final = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
# value
_DISCARD: Final = """
local gone = 0
for i = 1, #KEYS do
    if redis.pcall('GET', KEYS[i]) == ARGV[1] then gone = gone + redis.call('DEL', KEYS[i]) end
end
return gone
"""
_DELETE: Final = "return redis.call('DEL', unpack(KEYS))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A value that is there, and how long it will be, in seconds by the server's clock."""

    sealed: bytes
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Ours, until somebody else's: of the key with these names. `owner` is random."""

    names: tuple[str, ...]
    owner: str


class NoLease(Enum):
    """Why there is neither: another replica holds it, or what is there is not of our making."""

    BUSY = auto()
    ODD = auto()


Claimed: TypeAlias = Found | Lease | NoLease


class Leases:
    """Asks by way of the breaker. Only `claim` and `delete` raise `Unavailable`: the others may fail."""

    def __init__(self, breaker: Breaker) -> None:
        self._run = breaker.run

    async def look(self) -> bool:
        """Whether the server answers."""
        return await self._done("return 1", ())

    async def claim(self, names: tuple[str, ...], unwanted: Sequence[bytes] = ()) -> Claimed:
        """The value of the key with these names, unless it is one of `unwanted`; or its lease."""
        owner = secrets.token_hex(_OWNER_BYTES)
        limits: tuple[Argument, ...] = (owner, _milliseconds(LEASE_SECONDS), MAX_SEALED)
        match await self._run(_CLAIM, (*_tokens(names), *_leases(names)), (*limits, *unwanted)):
            case [b"found", bytes(sealed), int(left)]:
                return Found(sealed=sealed, seconds=left / 1000)
            case [b"ours"]:
                return Lease(names=names, owner=owner)
            case [b"busy"]:
                return NoLease.BUSY
        return NoLease.ODD

    async def renew(self, lease: Lease) -> bool:
        """Whether it is still ours, for another `LEASE_SECONDS`."""
        arguments = (lease.owner, _milliseconds(LEASE_SECONDS))
        return await self._done(_RENEW, _leases(lease.names[:1]), arguments)

    async def keep(self, lease: Lease, sealed: bytes, *, seconds: float) -> bool:
        """Keeps the value and ends the lease; not where the lease is no longer ours."""
        if len(sealed) > MAX_SEALED or seconds <= 0:
            return await self.release(lease)
        names = (*_tokens(lease.names), *_leases(lease.names))
        return await self._done(_KEEP, names, (lease.owner, _milliseconds(seconds), sealed))

    async def release(self, lease: Lease) -> bool:
        """Ends the lease, if it is still ours."""
        return await self._done(_RELEASE, _leases(lease.names[:1]), (lease.owner,))

    async def discard(self, names: tuple[str, ...], sealed: bytes) -> bool:
        """Deletes this very value, and no other that may have come in its place."""
        return await self._done(_DISCARD, _tokens(names), (sealed,))

    async def delete(self, keys: Iterable[tuple[str, ...]]) -> None:
        """Deletes values and leases of all these keys: who holds one of them keeps nothing any more."""
        names = [name for each in keys for name in (*_tokens(each), *_leases(each))]
        for start in range(0, len(names), _MAX_NAMES):
            await self._run(_DELETE, names[start : start + _MAX_NAMES])

    async def _done(
        self, script: str, names: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> bool:
        try:
            return await self._run(script, names, arguments) == 1
        except Unavailable:
            return False


def _tokens(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_TOKEN + name for name in names)


def _leases(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_LEASE + name for name in names)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
