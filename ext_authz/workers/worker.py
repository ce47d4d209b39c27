"""One worker: a process of this very program, which ends when its parent does."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

from ext_authz.cannot_serve import CannotServe
from ext_authz.workers.handover import packed
from ext_authz.workers.health import serves
from ext_authz.workers.plan import Plan

START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05


class Worker:
    """A process that was started as worker `number`."""

    def __init__(self, number: int, process: Process) -> None:
        self.number = number
        self._process = process
        self._is_told = False

    @classmethod
    async def start(cls, number: int, plan: Plan) -> "Worker":
        """Starts it, and hands the settings over; raises `CannotServe`. It does not serve yet."""
        # In a process group of its own: what a terminal sends to ours is for the parent to pass on.
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(number, plan.file), stdin=PIPE, process_group=0
            )
        except OSError as error:
            raise CannotServe(f"Worker {number} cannot be started: {error.strerror}.") from None
        if process.stdin is not None:
            process.stdin.write(packed(plan.document))
        return cls(number, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def until_serving(self, listen: str) -> None:
        """Returns once it says SERVING at `listen`; raises `CannotServe`, and then it has ended."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await serves(listen):
                    self._refuse_ended()
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            await self._kill()
            raise CannotServe(
                f"Worker {self.number} was not serving after {START_SECONDS:g} seconds."
            ) from None

    async def ended(self) -> int:
        """Its exit status, once it has one; below zero is the number of a signal."""
        return await self._process.wait()

    async def stop(self, seconds: float) -> int:
        """Has it finish what is in flight, in so many seconds or not at all; gives its exit status."""
        self._tell()
        try:
            async with asyncio.timeout(seconds):
                return await self.ended()
        except TimeoutError:
            return await self._kill()

    def _refuse_ended(self) -> None:
        status = self._process.returncode
        if status is not None:
            raise CannotServe(
                f"Worker {self.number} ended before it served, with exit status {status}."
            )

    def _tell(self) -> None:
        """Once: a second signal could come when the first is no longer waited for."""
        if not self._is_told:
            self._is_told = True
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def _kill(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self.ended()


def _command(number: int, file: str) -> list[str]:
    """The program that we are. It looks for modules in the current folder only if we do."""
    safe = [] if str(Path.cwd()) in sys.path else ["-P"]
    return [sys.executable, *safe, "-m", "ext_authz", "serve", file, "--worker", str(number)]
