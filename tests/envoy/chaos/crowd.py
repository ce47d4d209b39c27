"""Callers who each call again as soon as they are answered: there is always a Check under way."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import httpx2

from tests.envoy.chaos.load import Answered, Caller, call
from tests.envoy.mcp_call import http_client

SIZE: Final = 24
PAUSE: Final = 0.2  # seconds that a caller waits after a refusal, while a replica starts


class Crowd:
    """Calls that go on while a block runs; `answers` holds those that were answered so far."""

    def __init__(self, url: str, callers: Sequence[Caller]) -> None:
        self.answers: list[Answered] = []
        self._url = url
        self._callers = callers
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """The callers by turns; who is under way at the end of the block is waited for."""
        self._began = time.monotonic()
        async with http_client() as http, asyncio.TaskGroup() as calls:
            for number in range(SIZE):
                caller = self._callers[number % len(self._callers)]
                calls.create_task(self._call_on(http, caller))
            try:
                yield
            finally:
                self._stop.set()

    def now(self) -> float:
        """Seconds since the start: what `Answered.at` is measured in."""
        return time.monotonic() - self._began

    def between(self, first: float, last: float) -> list[Answered]:
        """The answers to calls that began after `first` and were over before `last`."""
        return [one for one in self.answers if first < one.at and one.at + one.seconds < last]

    async def _call_on(self, http: httpx2.AsyncClient, caller: Caller) -> None:
        while not self._stop.is_set():
            answer = await call(http, self._url, caller, self._began)
            self.answers.append(answer)
            if answer.status != 200:
                await asyncio.sleep(PAUSE)
