"""Keeps a shared server that is slow or down from costing more than a call every few seconds."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from ext_authz.clock import Clock
from ext_authz.log import Logger, logger

FIRST_PAUSE_SECONDS: Final = 0.5  # a hiccup is no outage
PAUSE_SECONDS: Final = 5.0  # each pause is twice as long as the one before, up to this
MAX_CALLS: Final = 8  # at once; waiting for a place here is not waiting for the server
Argument: TypeAlias = str | bytes | int
_log: Final[Logger] = logger("exchange")


class Unavailable(Exception):
    """The server gave no answer; the message is a code for the log and nothing of the server's."""


class Run(Protocol):
    """Runs one Lua script on the server; raises `Unavailable`."""

    async def __call__(
        self, script: str, names: Sequence[str], arguments: Sequence[Argument]
    ) -> object: ...


class Breaker:
    """Runs scripts by `run`, after a failure none for some seconds, and then one, to see."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._places = asyncio.Semaphore(MAX_CALLS)
        self._is_lost = False
        self._not_before = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    async def run(
        self, script: str, names: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> object:
        """What the script answers; raises `Unavailable`, at once while the server is left alone."""
        async with self._places:
            self._refuse_for_now()
            try:
                answer = await self._run(script, names, arguments)
            except Unavailable as error:
                self._lost(str(error))
                raise
        self._back()
        return answer

    def _refuse_for_now(self) -> None:
        if not self._is_lost:
            return
        now = self._clock.monotonic()
        if now < self._not_before:
            raise Unavailable("left_alone")
        self._pause = min(2 * self._pause, PAUSE_SECONDS)
        self._not_before = now + self._pause  # this one goes and sees, nobody else meanwhile

    def _lost(self, fault: str) -> None:
        if not self._is_lost:
            _log.error("shared_cache_lost", fault=fault)
            self._is_lost, self._pause = True, FIRST_PAUSE_SECONDS
        self._not_before = self._clock.monotonic() + self._pause

    def _back(self) -> None:
        if self._is_lost:
            _log.warning("shared_cache_back")
        self._is_lost = False
