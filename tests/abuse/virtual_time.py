"""Time that passes by itself, at once: an event loop that never waits, and clocks that go wrong."""

import asyncio
import selectors
from collections.abc import Awaitable
from typing import TypeVar

from ext_authz.clock import Clock
from tests.doubles.movable_time import START

T = TypeVar("T")


class _NeverWaits(selectors.DefaultSelector):
    """Where a loop would sleep until its next timer, the time of that timer has come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        assert ready or timeout is not None, "everybody waits, and nobody will ever come"
        self.now += timeout or 0.0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers all fire in order, and none of them late."""

    def __init__(self) -> None:
        self._never_waits = _NeverWaits()
        super().__init__(self._never_waits)

    def time(self) -> float:
        return self._never_waits.now

    def finish(self, awaitable: Awaitable[T]) -> T:
        """Runs until `awaitable` is done."""

        async def done() -> T:
            return await awaitable

        return self.run_until_complete(done())

    def passes(self, seconds: float) -> None:
        self.finish(asyncio.sleep(seconds))


class Clocks:
    """The machine's two clocks over a loop's time; each may be wrong by some seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wall_is_off = 0.0
        self.monotonic_is_off = 0.0
        self._furthest = 0.0
        self.clock = Clock(wall=self.wall, monotonic=self.monotonic, chance=lambda: 0.0)

    def wall(self) -> float:
        return self.true_wall() + self.wall_is_off

    def true_wall(self) -> float:
        """What everybody else's clocks say."""
        return START + self._loop.time()

    def monotonic(self) -> float:
        return 5_000.0 + self._loop.time() + self.monotonic_is_off

    def jump(self, *, wall: float = 0.0, monotonic: float = 0.0) -> None:
        self.wall_is_off += wall
        self.monotonic_is_off += monotonic
        self._furthest = max(self._furthest, self.monotonic_is_off)

    @property
    def behind(self) -> float:
        """How far the monotonic clock is behind what it has shown before."""
        return self._furthest - self.monotonic_is_off
