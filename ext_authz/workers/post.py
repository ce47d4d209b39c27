"""A worker's post: its number, its address and its files. Somebody is to hold it at any time."""

import asyncio
import signal
import time
from typing import Final

from ext_authz.cannot_serve import CannotServe
from ext_authz.log import Logger, logger
from ext_authz.settings.workers import of_worker
from ext_authz.workers.back_off import BackOff
from ext_authz.workers.health import serves
from ext_authz.workers.plan import Plan
from ext_authz.workers.worker import Worker

STOP_SECONDS: Final = 15.0  # beyond `timeouts.check`: the audit and its copies are closed as well
_ENDED_WELL: Final = {0, -signal.SIGTERM}  # the latter before it has begun to serve
_log: Final[Logger] = logger("workers")


class Post:
    """Keeps one worker running on a plan. `serving` is set while one serves."""

    def __init__(self, number: int, plan: Plan) -> None:
        self.number = number
        self.serving = asyncio.Event()
        self._plan = plan
        self._worker: Worker | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._back_off = BackOff()

    async def start(self) -> None:
        """Returns once a worker serves, and is kept; raises `CannotServe`."""
        await self._start()
        self._keep()

    async def replace(self, plan: Plan) -> None:
        """Puts a worker with `plan` in the place of the one with the plan before.

        Raises `CannotServe` where it cannot serve: then the plan before holds again.
        """
        before = self._plan
        await self.stop()
        self._plan = plan
        try:
            await self._start()
        except CannotServe:
            self._plan = before
            raise
        finally:
            self._keep()

    async def stop(self) -> bool:
        """Ends the worker in order; says whether it ended well."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
            self._keeping = None
        worker, self._worker = self._worker, None
        self.serving.clear()
        if worker is None:
            return True
        status = await worker.stop(self._plan.settings.timeouts.check + STOP_SECONDS)
        _log.info("worker_stopped", worker=self.number, pid=worker.pid, status=status)
        return status in _ENDED_WELL

    async def _start(self) -> None:
        """Starts a worker and waits until it serves; raises `CannotServe`."""
        listen = of_worker(self._plan.settings.listen, self.number)
        if await serves(listen):
            raise CannotServe(f"Cannot listen on {listen}: another process serves there.")
        self._worker = await Worker.start(self.number, self._plan)
        await self._worker.until_serving(listen)
        self.serving.set()
        _log.info("worker_serving", worker=self.number, pid=self._worker.pid, listen=listen)

    def _keep(self) -> None:
        self._keeping = asyncio.create_task(self._keep_serving())

    async def _keep_serving(self) -> None:
        while True:
            if self._worker is not None and self.serving.is_set():
                status = await self._worker.ended()
                self.serving.clear()
                _log.error("worker_died", worker=self.number, pid=self._worker.pid, status=status)
            await self._restart()

    async def _restart(self) -> None:
        """One try, after a while that grows from one to the next."""
        await asyncio.sleep(self._back_off.seconds(time.monotonic()))
        try:
            await self._start()
        except CannotServe as error:
            _log.error("worker_not_restarted", worker=self.number, why=str(error))
