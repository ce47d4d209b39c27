"""Looking on the shared server: another replica's token, or the lease to fetch one, or neither in time."""

import asyncio
import random
from typing import Final

from ext_authz.clock import Clock
from ext_authz.exchange.access_token import Lasting
from ext_authz.exchange.shared.breaker import Unavailable
from ext_authz.exchange.shared.lease import Found, Lease, Leases, NoLease
from ext_authz.exchange.shared.seal import NotSealed, Seals
from ext_authz.exchange.shared.token_format import FromTheFuture, Unusable, unpacked
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.log import Logger, logger
from ext_authz.settings.settings import McpServer

FIRST_POLL_SECONDS: Final = 0.01
LAST_POLL_SECONDS: Final = 0.1
MAX_REFUSED: Final = 4  # values: whoever puts in more of them gets no more of this caller's time
QUIET_SECONDS: Final = 60.0
_log: Final[Logger] = logger("exchange")


class Claims:
    """Made before each exchange. `wait` (seconds) bounds how long another replica's is waited for."""

    def __init__(self, leases: Leases, seals: Seals, clock: Clock, *, wait: float) -> None:
        self._leases = leases
        self._seals = seals
        self._clock = clock
        self._wait = wait
        self._quiet_until: dict[str, float] = {}

    async def claim(
        self, key: str, user: VerifiedUser, server: McpServer, *, newer_than: int
    ) -> Lasting | Lease | None:
        """A token that expires after `newer_than`, or the lease; None says to go without the server."""
        try:
            return await self._token_or_lease(key, user, server, newer_than)
        except Unavailable:
            return None

    async def _token_or_lease(
        self, key: str, user: VerifiedUser, server: McpServer, newer_than: int
    ) -> Lasting | Lease | None:
        names, refused, polls = self._seals.names(key), list[bytes](), _Polls(self._wait)
        while len(refused) < MAX_REFUSED:
            match await self._leases.claim(names, refused):
                case Lease() as lease:
                    return lease
                case Found() as found:
                    lasting = await self._believed(key, found, user, server)
                    if lasting is not None and lasting.token.expires_at > newer_than:
                        return lasting
                    refused.append(found.sealed)
                case NoLease.ODD:
                    self._remark("odd")
                    refused.append(b"")  # counts, and is no value of ours
                case _:  # another replica holds the lease
                    if not await polls.next():
                        break
        return None

    async def _believed(
        self, key: str, found: Found, user: VerifiedUser, server: McpServer
    ) -> Lasting | None:
        """What was found, if it was kept for this key, user and server, and lasts; else it is dropped."""
        try:
            opened = self._seals.open(key, found.sealed)
            lasting = unpacked(opened, user, server, self._clock, seconds=found.seconds)
        except FromTheFuture:
            self._remark("clocks_differ")
            return None
        except (NotSealed, Unusable) as error:
            self._remark(str(error) or "not_sealed")
            await self._leases.discard(self._seals.names(key), found.sealed)
            return None
        return lasting if lasting.seconds > 0 else None

    def _remark(self, fault: str) -> None:
        """Each kind once a minute at most: whoever can write to the server could fill the log."""
        now = self._clock.monotonic()
        if now >= self._quiet_until.get(fault, 0.0):
            self._quiet_until[fault] = now + QUIET_SECONDS
            _log.error("shared_value_refused", fault=fault)


class _Polls:
    """Asking again: soon at first, then less often, and not for longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + seconds
        self._pause = FIRST_POLL_SECONDS

    async def next(self) -> bool:
        """Waits; whether there is time for another."""
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - so that all do not ask at once
        self._pause = min(2 * self._pause, LAST_POLL_SECONDS)
        return self._now() < self._end
