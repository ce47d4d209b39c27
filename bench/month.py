"""How many exchanges a month of work costs, with the token lifetimes of each provider.

The real `AccessTokens` on a clock that is moved, with legs that only count, one user and server at a time:
users share nothing. A user signs in each morning, and their client gets a new user token when the old one
has expired. Beside it a cache keyed by the raw user token, as other gateways have it, whose entries live
as long as ours; and the theoretical minimum: an exchange can only be made when there is a call, and lasts
for the kept life of its access token, so nobody does with fewer than one for each such stretch that calls
fall into.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figure import Figure, at_most
from bench.in_process import shipped_settings
from bench.lifetimes import PROVIDERS, Lifetimes
from bench.progress import told
from bench.replicas import Plan, kept_life, plans
from bench.simulated_time import SimulatedTime
from bench.working_days import DAYS, USERS, days
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.secret import Secret
from ext_authz.settings.settings import IdentityProvider, Settings

DAY: Final = 86_400.0
OKTA_QUOTA: Final = 250  # ID-JAGs a month for a user and an app
PEOPLE: Final = 1000
_EQUAL: Final = at_most(1.0)


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
