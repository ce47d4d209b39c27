"""One run at a time for a key; everyone who asks meanwhile gets that run's result."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class TooManyWait(Exception):
    """As many callers wait for this key's run as may; nothing was started for this one."""


class SingleFlight(Generic[T]):
    """Joins concurrent callers of the same key to one task.

    The task belongs to nobody: Envoy cancels a Check at its deadline, and a caller's cancellation
    must not take the exchange away from the others who wait for it. Whoever starts a task bounds
    its time. At most `max_waiters` wait for one run, where a number is given.
    """

    def __init__(self, max_waiters: float = math.inf) -> None:
        self._max_waiters = max_waiters
        self._tasks: dict[str, asyncio.Task[T]] = {}
        self._waiters: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The result for `key`, and whether it came from a run that another caller had started.

        Raises what the run raises, the same for every caller; raises `TooManyWait`.
        """
        joined = key in self._tasks
        with self._waiting(key):
            return await asyncio.shield(self.begin(key, start)), joined

    def begin(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The run for `key`, started unless it is going already; nobody has to wait for it."""
        return self._tasks.get(key) or self._new(key, start)

    @contextmanager
    def _waiting(self, key: str) -> Iterator[None]:
        waiters = self._waiters.get(key, 0)
        if waiters >= self._max_waiters:
            raise TooManyWait
        self._waiters[key] = waiters + 1
        try:
            yield
        finally:
            self._waiters[key] -= 1
            if not self._waiters[key]:
                del self._waiters[key]

    def _new(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        task = asyncio.create_task(start())
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._end(key, done))
        return task

    def _end(self, key: str, done: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not done.cancelled():
            done.exception()  # marks it as seen: every caller may have gone by now
