"""How many exchanges a month of work costs, with the token lifetimes of each provider.

The real `AccessTokens` on a clock that is moved, with legs that only count, one user and server at a time:
users share nothing. A user signs in each morning, and their client gets a new user token when the old one
has expired. Beside it a cache keyed by the raw user token, as other gateways have it, whose entries live
as long as ours; and the theoretical minimum: an exchange can only be made when there is a call, and lasts
for the kept life of its access token, so nobody does with fewer than one for each such stretch that calls
fall into.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bench.counted_legs import Counted, counted_access_tokens
from bench.figure import Figure, at_most
from bench.in_process import shipped_settings
from bench.lifetimes import PROVIDERS, Lifetimes
from bench.progress import told
from bench.simulated_time import SimulatedTime
from bench.working_days import DAYS, USERS, days
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World
from ext_authz.exchange.access_tokens import MARGIN_SECONDS, MAX_AGE_SECONDS, AccessTokens
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.secret import Secret
from ext_authz.settings.settings import IdentityProvider, McpServer, Settings

DAY: Final = 86_400.0
OKTA_QUOTA: Final = 250  # ID-JAGs a month for a user and an app
PEOPLE: Final = 1000
_EQUAL: Final = at_most(1.0)


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


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """For each provider the minimum a day for 1,000 users, and what each plan needs over it."""
    with secret_files(world, folder / "secrets"):
        settings = shipped_settings(world, folder, servers=1)
    figures: list[Figure] = []
    for lifetimes in PROVIDERS:
        with told(f"month: {lifetimes.provider}"):
            figures += await _of_provider(settings, lifetimes)
    return figures


async def _of_provider(settings: Settings, lifetimes: Lifetimes) -> Sequence[Figure]:
    provider = lifetimes.provider
    users = [days(seed) for seed in range(USERS)]
    least = sum(minimum(day, kept_life(lifetimes)) for user in users for day in user)
    figures = [
        Figure(
            name=f"month_{provider}_minimum",
            value=least * PEOPLE / (USERS * DAYS),
            what=f"least exchanges a working day for {PEOPLE:,} users of a server, {provider}",
        )
    ]
    for plan in plans():
        exchanges = sum([await _exchanges(plan, settings, lifetimes, user) for user in users])
        figures.append(
            Figure(
                name=f"month_{provider}_{plan.name}",
                value=exchanges / least,
                what=f"exchanges over the minimum: {plan.what}",
                target=_EQUAL if plan.is_promised else None,
            )
        )
        if provider == "okta" and plan.name == "ours":
            figures.append(_quota(exchanges))
    return figures


def _quota(exchanges: int) -> Figure:
    return Figure(
        name="month_okta_quota_used",
        value=exchanges / USERS / OKTA_QUOTA,
        what=f"share of Okta's {OKTA_QUOTA} ID-JAGs a month that a user needs at a server",
        target=_EQUAL,
    )


async def _exchanges(
    plan: Plan, settings: Settings, lifetimes: Lifetimes, user_days: Sequence[Sequence[float]]
) -> int:
    """What one user's month costs; each call meets any of the replicas."""
    time, chance = SimulatedTime(), random.Random(0)
    replicas = plan.replicas(settings, lifetimes, time)
    (provider,) = settings.identity_providers.values()
    (server,) = settings.servers.values()
    for day, calls in enumerate(user_days):
        user = _signed_in(provider, lifetimes, time, day, 0)
        for call in calls:
            time.now = day * DAY + call
            if user.expires_at <= time.clock.wall():
                user = _signed_in(provider, lifetimes, time, day, call)
            await chance.choice(replicas).call(user, server)
    return sum(replica.exchanges for replica in replicas)


def _signed_in(
    provider: IdentityProvider, lifetimes: Lifetimes, time: SimulatedTime, day: int, call: float
) -> VerifiedUser:
    """The user with a new user token of the day's session."""
    return VerifiedUser(
        provider=provider,
        issuer=provider.issuer,
        subject="00u-alice",
        session=f"session-{day}",
        acr=None,
        agent=None,
        expires_at=int(time.clock.wall()) + lifetimes.user_token,
        token=Secret(f"user-token-{day}-{call}"),
    )


def kept_life(lifetimes: Lifetimes) -> float:
    """Seconds for which an access token is used."""
    life = lifetimes.access_token
    return min(life - min(MARGIN_SECONDS, life / 10), MAX_AGE_SECONDS)


def minimum(calls: Sequence[float], life: float) -> int:
    """The least number of stretches of `life` seconds, each begun by a call, that all calls fall into."""
    exchanges, until = 0, -1.0
    for call in calls:
        if call >= until:
            exchanges, until = exchanges + 1, call + life
    return exchanges


def by_provider(figures: Mapping[str, float], plan: str) -> Mapping[str, float]:
    """Exchanges a day for 1,000 users by provider, from a run's figures."""
    return {
        each.provider: figures[f"month_{each.provider}_{plan}"]
        * figures[f"month_{each.provider}_minimum"]
        for each in PROVIDERS
        if f"month_{each.provider}_{plan}" in figures
    }
