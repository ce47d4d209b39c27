"""Access tokens in memory: bounded by count, each until it is too old to use, never on disk.

aiocache stores; key, bound, expiry and single flight are ours. Its `ttl=0` keeps a value for ever,
so nothing without life left is stored.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aiocache import SimpleMemoryCache

from ext_authz.clock import Clock

T = TypeVar("T")
MAX_ENTRIES: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """A value with the end of its life on both clocks: whichever comes first counts."""

    value: T
    until_monotonic: float
    until_wall: float


class TokenCache(Generic[T]):
    """Keeps values by key for so many seconds; the least recently used go first."""

    def __init__(self, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._store = SimpleMemoryCache(timeout=None)
        self._used: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    async def get(self, key: str) -> T | None:
        """The value, where there is one with life left."""
        entry: object = await self._store.get(key)
        if not isinstance(entry, _Entry) or not self._is_alive(entry):
            await self.drop(key)
            return None
        self._used.move_to_end(key)
        value: T = entry.value
        return value

    async def put(self, key: str, value: T, *, seconds: float) -> None:
        """Keeps `value` for `seconds`; not at all where that is nothing."""
        if seconds <= 0:
            return
        entry = _Entry(value, self._clock.monotonic() + seconds, self._clock.wall() + seconds)
        await self._store.set(key, entry, ttl=seconds)
        self._used[key] = None
        self._used.move_to_end(key)
        while len(self._used) > self._max_entries:
            await self.drop(next(iter(self._used)))

    async def drop(self, key: str) -> None:
        """Forgets `key`."""
        await self._store.delete(key)
        self._used.pop(key, None)

    def _is_alive(self, entry: _Entry[T]) -> bool:
        before_end = self._clock.monotonic() < entry.until_monotonic
        return before_end and self._clock.wall() < entry.until_wall
