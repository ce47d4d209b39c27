"""The parent of several workers: starts them, restarts what dies, replaces all on SIGHUP, stops them."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from ext_authz.cannot_serve import CannotServe
from ext_authz.log import Logger, log_uncaught, logger
from ext_authz.settings.yaml_cursor import SettingsInvalid
from ext_authz.workers.plan import Plan, read_plan
from ext_authz.workers.post import Post
from ext_authz.workers.worker import START_SECONDS

SETTLE_SECONDS: Final = 2.0  # until Envoy's health checks have seen that a new worker serves
_log: Final[Logger] = logger("workers")


async def supervise(file: str) -> bool:
    """Keeps the workers of the settings in `file` running until SIGTERM or SIGINT; then ends them in order.

    Says whether all of them ended well. Raises `CannotServe` where one cannot start at all, and
    `SettingsInvalid`.
    """
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    loop.set_exception_handler(log_uncaught)
    supervisor = Supervisor(read_plan(file))
    running = asyncio.create_task(supervisor.run(reload))
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
    fault = running.exception() if running.done() else None
    for task in (running, told):
        task.cancel()
    await asyncio.wait({running, told})
    ended_well = await supervisor.stop()
    if fault is not None:
        raise fault
    _log.info("workers_stopped")
    return ended_well


class Supervisor:
    """The posts, by number."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._posts: dict[int, Post] = {}

    async def run(self, reload: asyncio.Event) -> None:
        """Starts every worker, and replaces all of them each time `reload` is set.

        Raises `CannotServe` where one of the first cannot serve.
        """
        await self._start()
        while True:
            await reload.wait()
            reload.clear()
            await self._reload()

    async def stop(self) -> bool:
        """Ends all workers at once, each in order; says whether all ended well."""
        return all(await asyncio.gather(*(post.stop() for post in self._posts.values())))

    async def _start(self) -> None:
        self._posts = {number: Post(number, self._plan) for number in _numbers(self._plan)}
        starting = [post.start() for post in self._posts.values()]
        outcomes = await asyncio.gather(*starting, return_exceptions=True)
        for fault in filter(None, outcomes):
            raise fault
        _log.info("workers_serving", workers=len(self._posts))

    async def _reload(self) -> None:
        """Settings with a fault are refused; those that no worker can run on, given up again."""
        try:
            plan = await asyncio.to_thread(read_plan, self._plan.file)
        except SettingsInvalid as invalid:
            _log.error("reload_refused", faults=[str(fault) for fault in invalid.faults])
            return
        _log.info("reloading", workers=plan.settings.workers)
        try:
            await self._replace_all(plan)
        except CannotServe as error:
            _log.error("reload_stopped", why=str(error))
        else:
            self._plan = plan
            _log.info("reloaded", workers=len(self._posts))

    async def _replace_all(self, plan: Plan) -> None:
        """One at a time, first those that do not serve; raises `CannotServe`."""
        wanted = _numbers(plan)
        for index, number in enumerate(sorted({*self._posts, *wanted}, key=self._is_serving)):
            if index:
                await asyncio.sleep(SETTLE_SECONDS)
            await self._until_others_serve(number)
            if number not in wanted:
                await self._posts.pop(number).stop()
            elif number in self._posts:
                await self._posts[number].replace(plan)
            else:
                await self._add(number, plan)

    async def _add(self, number: int, plan: Plan) -> None:
        post = Post(number, plan)
        self._posts[number] = post
        try:
            await post.start()
        except CannotServe:
            await self._posts.pop(number).stop()
            raise

    def _is_serving(self, number: int) -> bool:
        return number in self._posts and self._posts[number].serving.is_set()

    async def _until_others_serve(self, number: int) -> None:
        """Before one that serves is taken away, all others must; raises `CannotServe`."""
        if not self._is_serving(number):
            return
        others = [post.serving.wait() for post in self._posts.values() if post.number != number]
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.gather(*others)
        except TimeoutError:
            raise CannotServe(
                f"Worker {number} was left as it is, since another one does not serve."
            ) from None


def _numbers(plan: Plan) -> Sequence[int]:
    return range(1, plan.settings.workers + 1)
