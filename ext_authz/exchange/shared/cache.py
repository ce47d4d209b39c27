"""One exchange for all replicas: a token that another one fetched, or the lease to fetch it.

The shared server is asked only for what is not in memory. Without it, or where it is slow or not to be
believed, this replica exchanges for itself. Failures are not shared: each replica remembers its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ext_authz.clock import Clock
from ext_authz.exchange.access_token import Lasting
from ext_authz.exchange.access_tokens import Fetch
from ext_authz.exchange.shared.breaker import Breaker, Run
from ext_authz.exchange.shared.claim import Claims
from ext_authz.exchange.shared.drops import Drops
from ext_authz.exchange.shared.lease import RENEW_SECONDS, Lease, Leases
from ext_authz.exchange.shared.seal import Seals
from ext_authz.exchange.shared.token_format import packed
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.settings.settings import McpServer


class SharedCache:
    """The replicas' common memory. `wait` (seconds) bounds how long another's exchange is waited for."""

    def __init__(self, run: Run, seals: Seals, clock: Clock, *, wait: float) -> None:
        self._seals = seals
        self._clock = clock
        self._leases = Leases(Breaker(run, clock))
        self._claims = Claims(self._leases, seals, clock, wait=wait)
        self._drops = Drops(self._leases, seals)

    async def token(
        self, key: str, user: VerifiedUser, server: McpServer, fetch: Fetch, *, newer_than: int = 0
    ) -> Lasting:
        """Another replica's token that expires after `newer_than` (seconds since 1970), or `fetch`'s.

        Raises what `fetch` raises, and nothing else.
        """
        if self._drops.owes(key):
            return await fetch()
        claimed = await self._claims.claim(key, user, server, newer_than=newer_than)
        if isinstance(claimed, Lasting):
            return claimed
        return await (fetch() if claimed is None else self._fetched(key, claimed, fetch))

    async def drop(self, key: str) -> None:
        """Forgets the token of `key` for all replicas, and fences off whoever is fetching it now.

        What other replicas have in their own memory stays there for its time.
        """
        await self._drops.drop(key)

    async def look(self) -> None:
        """Says in the log if the server cannot be had, before the first user needs it."""
        await self._leases.look()

    async def close(self) -> None:
        """Ends what runs on the side."""
        await self._drops.close()

    async def _fetched(self, key: str, lease: Lease, fetch: Fetch) -> Lasting:
        async with self._renewing(lease):
            try:
                lasting = await fetch()
            except Exception:
                await self._leases.release(lease)  # the others need not wait for us
                raise
        sealed = self._seals.seal(key, packed(lasting, self._clock))
        await self._leases.keep(lease, sealed, seconds=lasting.seconds)
        return lasting

    @asynccontextmanager
    async def _renewing(self, lease: Lease) -> AsyncIterator[None]:
        """Renewed as long as the block runs. A call that is under way then is waited for: it is short."""
        over = asyncio.Event()
        renewal = asyncio.create_task(self._renew_until(over, lease))
        try:
            yield
        finally:
            over.set()
            await asyncio.wait([renewal])

    async def _renew_until(self, over: asyncio.Event, lease: Lease) -> None:
        is_ours = True
        while is_ours and not over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await over.wait()
            is_ours = over.is_set() or await self._leases.renew(lease)
