"""Forgetting a token for all replicas, even where the shared server cannot be told at once."""

import asyncio
import contextlib
from typing import Final

from ext_authz.exchange.shared.breaker import PAUSE_SECONDS, Unavailable
from ext_authz.exchange.shared.lease import Leases
from ext_authz.exchange.shared.seal import Seals
from ext_authz.log import Logger, logger

MAX_OWED: Final = 100_000
_log: Final[Logger] = logger("exchange")


class Drops:
    """Deletes on the server, again and again until it has heard; meanwhile knows what it owes."""

    def __init__(self, leases: Leases, seals: Seals) -> None:
        self._leases = leases
        self._seals = seals
        self._owed: dict[str, None] = {}
        self._paying: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def owes(self, cache_key: str) -> bool:
        """Whether the server may still hold what was to be forgotten."""
        return cache_key in self._owed

    async def drop(self, cache_key: str) -> None:
        """Forgets it on the server: now, or as soon as that can be reached."""
        self._owe(cache_key)
        if not await self._pay() and (self._paying is None or self._paying.done()):
            self._paying = asyncio.create_task(self._pay_later())

    async def close(self) -> None:
        """Tells the server once more of what is owed, and gives up what it does not hear."""
        self._closing.set()
        if self._paying is not None:
            await self._paying
        if self._owed:
            _log.error("shared_cache_not_told", dropped=len(self._owed))

    def _owe(self, cache_key: str) -> None:
        self._owed[cache_key] = None
        if len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]

    async def _pay_later(self) -> None:
        """Ended by `close` and not by cancelling it: before Python 3.12 the client may swallow that."""
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._closing.wait()
            if await self._pay():
                break

    async def _pay(self) -> bool:
        owed = list(self._owed)
        try:
            await self._leases.delete(self._seals.names(cache_key) for cache_key in owed)
        except Unavailable:
            return False
        for cache_key in owed:
            self._owed.pop(cache_key, None)
        return True
