"""The access token for a user at a server: from the cache, from a running exchange, or by both legs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Protocol, TypeAlias

from ext_authz.clock import Clock
from ext_authz.exchange.access_token import AccessToken, Lasting, Source, keep_seconds, weight
from ext_authz.exchange.cache_key import cache_key
from ext_authz.exchange.failure_memory import OF_THE_TOKEN, FailureMemory
from ext_authz.exchange.id_jag import IdJag, IdJagIssuer
from ext_authz.exchange.jwt_bearer import Grant, Redeemer
from ext_authz.exchange.legs import Legs
from ext_authz.exchange.refresh_ahead import Renewal, UnshownLegs, ending_seconds
from ext_authz.exchange.token_cache import TokenCache
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Denied, Reason
from ext_authz.settings.settings import McpServer
from ext_authz.single_flight import SingleFlight, TooManyWait

MAX_WAITERS: Final = 1_000  # for one exchange: no session takes all the room for Checks

Fetch: TypeAlias = Callable[[], Awaitable[Lasting]]


class Shared(Protocol):
    """What replicas have in common: asked before an exchange, and never the reason for a failure."""

    async def token(
        self, key: str, user: VerifiedUser, server: McpServer, fetch: Fetch, *, newer_than: int = 0
    ) -> Lasting:
        """A token that another replica fetched, or what `fetch` brings; raises what that raises."""

    async def drop(self, key: str) -> None:
        """Forgets the token of `key`."""


class AccessTokens:
    """Gives access tokens to verified users; `seconds` bounds one exchange, both legs together."""

    def __init__(
        self,
        id_jags: Mapping[str, IdJagIssuer],
        redeemers: Mapping[str, Redeemer],
        clock: Clock,
        *,
        seconds: float,
        shared: Shared | None = None,
    ) -> None:
        self._id_jags = id_jags
        self._redeemers = redeemers
        self._clock = clock
        self._seconds = seconds
        self._shared = shared
        self._cache: TokenCache[AccessToken] = TokenCache(clock, weigh=weight)
        self._failures = FailureMemory(clock)
        self._unshown = UnshownLegs()
        self._flight: SingleFlight[AccessToken] = SingleFlight(MAX_WAITERS)

    async def token_for(self, user: VerifiedUser, server: McpServer) -> AccessToken:
        """An access token of `server` for `user`; raises `Denied`.

        One exchange per key runs at a time, and its outcome is everyone's who asked meanwhile.
        """
        key = cache_key(user, server)
        cached = await self._cache.get(key)
        if cached is not None:
            if self._cache.is_ending(key):
                self._renew_ahead(key, user, server, cached)
            return self._shown(key, cached)
        failure = self._failures.recall(key, user.token.digest())
        if failure is not None:
            raise failure
        return await self._join_or_exchange(key, user, server)

    def _renew_ahead(
        self, key: str, user: VerifiedUser, server: McpServer, old: AccessToken
    ) -> None:
        """Begins an exchange that nobody waits for, unless one runs, or has failed just now."""
        if self._failures.holds(key):
            return
        renewal: Renewal[AccessToken] = Renewal(
            key=key,
            user=user,
            server=server,
            drop=self.drop,
            failures=self._failures,
            unshown=self._unshown,
            clock=self._clock,
        )
        exchange = partial(self._exchange, key, user, server, newer_than=old.expires_at)
        self._flight.begin(key, lambda: renewal.renew(exchange))

    def _shown(self, key: str, cached: AccessToken) -> AccessToken:
        """`cached`, with the legs that it was had by ahead, where no Check has shown them yet."""
        legs = self._unshown.take(key, cached.id_jag_jti)
        return replace(cached, legs=legs) if legs else cached

    async def drop(self, key: str) -> None:
        """Forgets the token of `key` (`cache_key`), here and where replicas share theirs."""
        await self._cache.drop(key)
        if self._shared is not None:
            await self._shared.drop(key)

    async def _join_or_exchange(
        self, key: str, user: VerifiedUser, server: McpServer
    ) -> AccessToken:
        while True:
            try:
                return await self._join(key, user, server)
            except Denied as denied:
                # A run that was started with another user token of the session, and that was
                # refused, says nothing about ours.
                if denied.reason not in OF_THE_TOKEN or self._is_remembered(key, user):
                    raise

    async def _join(self, key: str, user: VerifiedUser, server: McpServer) -> AccessToken:
        try:
            token, joined = await self._flight.run(key, lambda: self._exchange(key, user, server))
        except Denied as denied:
            # A copy for each waiter: one exception object would gather the tracebacks of them all.
            raise denied.copy() from None
        except TooManyWait:
            detail = "too many wait for this exchange already"
            raise Denied(Reason.EXCHANGE_OVERLOADED, detail) from None
        return replace(token, source=Source.JOINED) if joined else token

    def _is_remembered(self, key: str, user: VerifiedUser) -> bool:
        return self._failures.recall(key, user.token.digest()) is not None

    async def _exchange(
        self, key: str, user: VerifiedUser, server: McpServer, *, newer_than: int = 0
    ) -> AccessToken:
        legs = Legs(self._clock)
        try:
            lasting = await self._shared_or_fetched(key, user, server, legs, newer_than)
        except Denied as denied:
            if legs.made:  # where nobody was asked, there is nothing to spare them
                self._failures.remember(key, user.token.digest(), denied)
            denied.legs = legs.made
            raise
        self._failures.forget(key)
        kept = replace(lasting.token, source=Source.CACHE)
        ending = ending_seconds(key, lasting.seconds)
        await self._cache.put(key, kept, seconds=lasting.seconds, ending=ending)
        return replace(lasting.token, legs=legs.made)

    async def _shared_or_fetched(
        self, key: str, user: VerifiedUser, server: McpServer, legs: Legs, newer_than: int
    ) -> Lasting:
        async def fetch() -> Lasting:
            token = await self._both_legs_in_time(user, server, legs)
            return Lasting(token=token, seconds=keep_seconds(token.expires_at - self._clock.wall()))

        if self._shared is None:
            return await fetch()
        return await self._shared.token(key, user, server, fetch, newer_than=newer_than)

    async def _both_legs_in_time(
        self, user: VerifiedUser, server: McpServer, legs: Legs
    ) -> AccessToken:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._both_legs(user, server, legs)
        except TimeoutError:
            raise Denied(Reason.DEADLINE_EXCEEDED, "the exchange took too long") from None

    async def _both_legs(self, user: VerifiedUser, server: McpServer, legs: Legs) -> AccessToken:
        try:
            return await self._one_try(user, server, legs)
        except Denied as denied:
            if denied.reason is not Reason.ID_JAG_REFUSED:
                raise
        # An ID-JAG whose first redemption got lost on the way is spent: a fresh one, once.
        return await self._one_try(user, server, legs)

    async def _one_try(self, user: VerifiedUser, server: McpServer, legs: Legs) -> AccessToken:
        redeemer = self._redeemers[server.authorization_server.issuer]
        with redeemer.admission() as permit:  # no ID-JAG is minted that could not be redeemed now
            id_jag = await self._id_jags[user.issuer].obtain(user, server, legs)
            grant = await redeemer.redeem(id_jag, server, legs, permit)
        return self._token(user, server, id_jag, grant)

    def _token(
        self, user: VerifiedUser, server: McpServer, id_jag: IdJag, grant: Grant
    ) -> AccessToken:
        return AccessToken(
            value=grant.token,
            issuer=user.issuer,
            subject=user.subject,
            resource=server.resource,
            scope=grant.scope,
            expires_at=int(self._clock.wall()) + grant.lifetime,
            id_jag_jti=id_jag.jti,
            source=Source.EXCHANGE,
            id_jag_digest=id_jag.token.digest(),
        )
