"""One thread for calls that block. It never keeps the process alive: a hung disk must not either."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeVar

Result = TypeVar("Result")
_Job = Callable[[], None]
_STOP: Final = None


class Worker:
    """Runs functions one after the other, in the order in which they were given."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises. Who is cancelled meanwhile does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def job() -> None:
            settle = _outcome(function, future)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle)

        self._jobs.put(job)
        return await future

    def stop(self) -> None:
        """Ends the thread behind what it was given so far."""
        self._jobs.put(_STOP)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _STOP:
            job()


def _outcome(function: Callable[[], Result], future: "asyncio.Future[Result]") -> _Job:
    """Runs `function`; gives what tells the future of it."""
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
        fault = error
        return lambda: None if future.done() else future.set_exception(fault)
    return lambda: None if future.done() else future.set_result(result)
