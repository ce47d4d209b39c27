"""The replicas that a month is simulated with: ours, and caches keyed by the raw user token."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bench.counted_legs import Counted, counted_access_tokens
from bench.lifetimes import Lifetimes
from bench.simulated_time import SimulatedTime
from ext_authz.exchange.access_token import Lasting, keep_seconds
from ext_authz.exchange.access_tokens import AccessTokens, Fetch, Shared
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.settings.settings import McpServer, Settings


def kept_life(lifetimes: Lifetimes) -> float:
    """Seconds for which an access token is used."""
    return keep_seconds(lifetimes.access_token)


class Replica(Protocol):
    """Something that answers a call of `user`, by an exchange if it has to; `exchanges` so far."""

    @property
    def exchanges(self) -> int: ...

    async def call(self, user: VerifiedUser, server: McpServer) -> None: ...


class Ours:
    """A replica of the service, with a cache of its own, or with one that it shares."""

    def __init__(
        self,
        settings: Settings,
        lifetimes: Lifetimes,
        time: SimulatedTime,
        shared: Shared | None = None,
    ) -> None:
        self._counted = Counted()
        self._tokens: AccessTokens = counted_access_tokens(
            settings,
            self._counted,
            time.clock,
            lifetime=lifetimes.access_token,
            shared=shared,
        )

    @property
    def exchanges(self) -> int:
        return self._counted.exchanges

    async def call(self, user: VerifiedUser, server: McpServer) -> None:
        await self._tokens.token_for(user, server)
        await asyncio.sleep(0)  # what a call leaves behind is done before time moves on


class RawTokenKeyed:
    """What others do: the cache's key is the user token itself, so that each new one costs an exchange."""

    def __init__(self, _settings: Settings, lifetimes: Lifetimes, time: SimulatedTime) -> None:
        self.exchanges = 0
        self._life = kept_life(lifetimes)
        self._time = time
        self._until: dict[tuple[bytes, str], float] = {}

    async def call(self, user: VerifiedUser, server: McpServer) -> None:
        key, now = (user.token.digest(), server.resource), self._time.now
        if self._until.get(key, 0.0) <= now:
            self.exchanges += 1
            self._until[key] = now + self._life


Make = Callable[[Settings, Lifetimes, SimulatedTime], Replica]


def replicas_alone(
    make: Make, number: int, settings: Settings, lifetimes: Lifetimes, time: SimulatedTime
) -> Sequence[Replica]:
    """So many replicas that know nothing of each other."""
    return [make(settings, lifetimes, time) for _ in range(number)]


class SharedInMemory:
    """The shared cache without its server, whose clock cannot be made to pass a month in a minute."""

    def __init__(self, time: SimulatedTime) -> None:
        self._time = time
        self._kept: dict[str, tuple[Lasting, float]] = {}

    async def token(
        self,
        key: str,
        _user: VerifiedUser,
        _server: McpServer,
        fetch: Fetch,
        *,
        newer_than: int = 0,
    ) -> Lasting:
        lasting, until = self._kept.get(key, (None, 0.0))
        left = until - self._time.now
        if lasting is None or left <= 0 or lasting.token.expires_at <= newer_than:
            lasting = await fetch()
            self._kept[key] = (lasting, self._time.now + lasting.seconds)
            return lasting
        return Lasting(token=lasting.token, seconds=left)

    async def drop(self, key: str) -> None:
        self._kept.pop(key, None)


def replicas_sharing(
    number: int, settings: Settings, lifetimes: Lifetimes, time: SimulatedTime
) -> Sequence[Replica]:
    """So many replicas on one shared cache."""
    shared = SharedInMemory(time)
    return [Ours(settings, lifetimes, time, shared) for _ in range(number)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Replicas to simulate, under the name that they have in the figures."""

    name: str
    what: str
    replicas: Callable[[Settings, Lifetimes, SimulatedTime], Sequence[Replica]]
    is_promised: bool = False


def _alone(make: Make, number: int) -> Callable[..., Sequence[Replica]]:
    def replicas(
        settings: Settings, lifetimes: Lifetimes, time: SimulatedTime
    ) -> Sequence[Replica]:
        return replicas_alone(make, number, settings, lifetimes, time)

    return replicas


def plans() -> Sequence[Plan]:
    """Everything that is compared."""
    return [
        Plan(name="ours", what="one replica", replicas=_alone(Ours, 1), is_promised=True),
        Plan(name="ours_x2", what="two replicas, no shared cache", replicas=_alone(Ours, 2)),
        Plan(
            name="ours_x2_shared",
            what="two replicas, shared cache",
            replicas=partial(replicas_sharing, 2),
            is_promised=True,
        ),
        Plan(
            name="raw_key", what="cache keyed by the raw token", replicas=_alone(RawTokenKeyed, 1)
        ),
        Plan(name="raw_key_x2", what="the same, two replicas", replicas=_alone(RawTokenKeyed, 2)),
    ]
