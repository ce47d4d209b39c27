"""One run at a time for a key; everyone who asks meanwhile gets that run's result."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Joins concurrent callers of the same key to one task.

    The task belongs to nobody: Envoy cancels a Check at its deadline, and a caller's cancellation
    must not take the exchange away from the others who wait for it. Whoever starts a task bounds
    its time.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The result for `key`, and whether it came from a run that another caller had started.

        Raises what the run raises, the same for every caller.
        """
        joined = key in self._tasks
        return await asyncio.shield(self.begin(key, start)), joined

    def begin(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The run for `key`, started unless it is going already; nobody has to wait for it."""
        return self._tasks.get(key) or self._new(key, start)

    def _new(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        task = asyncio.create_task(start())
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._end(key, done))
        return task

    def _end(self, key: str, done: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not done.cancelled():
            done.exception()  # marks it as seen: every caller may have gone by now
