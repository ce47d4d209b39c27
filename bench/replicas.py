"""The replicas that a month is simulated with: ours, and caches keyed by the raw user token."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.counted_legs import Counted, counted_access_tokens
from bench.lifetimes import Lifetimes
from bench.simulated_time import SimulatedTime
from ext_authz.exchange.access_tokens import MARGIN_SECONDS, MAX_AGE_SECONDS, AccessTokens
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.settings.settings import McpServer, Settings


def kept_life(lifetimes: Lifetimes) -> float:
    """Seconds for which an access token is used."""
    life = lifetimes.access_token
    return min(life - min(MARGIN_SECONDS, life / 10), MAX_AGE_SECONDS)


class Replica(Protocol):
    """Something that answers a call of `user`, by an exchange if it has to; `exchanges` so far."""

    @property
    def exchanges(self) -> int: ...

    async def call(self, user: VerifiedUser, server: McpServer) -> None: ...


class OursAlone:
    """A replica of the service with a cache of its own."""

    def __init__(self, settings: Settings, lifetimes: Lifetimes, time: SimulatedTime) -> None:
        self._counted = Counted()
        self._tokens: AccessTokens = counted_access_tokens(
            settings, self._counted, time.clock, lifetime=lifetimes.access_token
        )

    @property
    def exchanges(self) -> int:
        return self._counted.exchanges

    async def call(self, user: VerifiedUser, server: McpServer) -> None:
        await self._tokens.token_for(user, server)
        await asyncio.sleep(
            0
        )  # whatever a call leaves behind to be done is done before time moves on


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


# THE PLACE FOR REPLICAS THAT SHARE: a function that gives, as `replicas_alone` does, the number of replicas
# on one shared cache. Where it is None, the figures of sharing replicas are left out.
REPLICAS_SHARING: Callable[[int, Settings, Lifetimes, SimulatedTime], Sequence[Replica]] | None = (
    None
)


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
        Plan(name="ours", what="one replica", replicas=_alone(OursAlone, 1), is_promised=True),
        Plan(name="ours_x2", what="two replicas, no shared cache", replicas=_alone(OursAlone, 2)),
        *_sharing(),
        Plan(
            name="raw_key", what="cache keyed by the raw token", replicas=_alone(RawTokenKeyed, 1)
        ),
        Plan(name="raw_key_x2", what="the same, two replicas", replicas=_alone(RawTokenKeyed, 2)),
    ]


def _sharing() -> Sequence[Plan]:
    share = REPLICAS_SHARING
    if share is None:
        return []

    def replicas(
        settings: Settings, lifetimes: Lifetimes, time: SimulatedTime
    ) -> Sequence[Replica]:
        return share(2, settings, lifetimes, time)

    what = "two replicas, shared cache"
    return [Plan(name="ours_x2_shared", what=what, replicas=replicas, is_promised=True)]
