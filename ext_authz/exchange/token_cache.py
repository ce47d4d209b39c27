"""Access tokens in memory: bounded by count and bytes, each until it is too old to use, never on disk.

aiocache stores; key, bound, expiry and single flight are ours. Its `ttl=0` keeps a value for ever,
so nothing without life left is stored.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aiocache import SimpleMemoryCache

from ext_authz.clock import Clock

T = TypeVar("T")
MAX_ENTRIES: Final = 100_000
MAX_BYTES: Final = 64 * 1024 * 1024
ENTRY_BYTES: Final = 1_200  # of memory for an access token's entry, its texts apart: measured


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """A value with the end of its life on both clocks: whichever comes first counts."""

    value: T
    until_monotonic: float
    until_wall: float


@dataclass(frozen=True, slots=True)
class _Place:
    """What an entry weighs in bytes, and from when on its end is near, on the monotonic clock."""

    weight: int
    ending_at: float


class TokenCache(Generic[T]):
    """Keeps values by key for so many seconds; the least recently used go first.

    `weigh` gives the bytes of what varies from value to value.
    """

    def __init__(
        self,
        clock: Clock,
        max_entries: int = MAX_ENTRIES,
        *,
        max_bytes: int = MAX_BYTES,
        weigh: Callable[[T], int] = lambda _: 0,
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._weigh = weigh
        self._store = SimpleMemoryCache(timeout=None)
        self._used: OrderedDict[str, _Place] = OrderedDict()
        self.bytes = 0  # of all entries together

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

    def is_ending(self, key: str) -> bool:
        """Whether the value that was just got is within the last seconds that `put` was told of."""
        place = self._used.get(key)
        return place is not None and self._clock.monotonic() >= place.ending_at

    async def put(self, key: str, value: T, *, seconds: float, ending: float = 0.0) -> None:
        """Keeps `value` for `seconds`, the last `ending` of which count as its end; 0: not at all."""
        if seconds <= 0:
            return
        until = self._clock.monotonic() + seconds
        entry = _Entry(value, until, self._clock.wall() + seconds)
        await self._store.set(key, entry, ttl=seconds)
        self._vacate(key)
        self._used[key] = _Place(ENTRY_BYTES + self._weigh(value), until - ending)
        self.bytes += self._used[key].weight
        while len(self._used) > self._max_entries or self.bytes > self._max_bytes:
            await self.drop(next(iter(self._used)))

    async def drop(self, key: str) -> None:
        """Forgets `key`."""
        await self._store.delete(key)
        self._vacate(key)

    def _vacate(self, key: str) -> None:
        place = self._used.pop(key, None)
        self.bytes -= place.weight if place is not None else 0

    def _is_alive(self, entry: _Entry[T]) -> bool:
        before_end = self._clock.monotonic() < entry.until_monotonic
        return before_end and self._clock.wall() < entry.until_wall
