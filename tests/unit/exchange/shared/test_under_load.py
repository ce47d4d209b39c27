"""Two replicas under load while the server between them is killed, paused, and comes back."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from ext_authz.exchange.access_token import AccessToken, Source
from ext_authz.exchange.shared.breaker import PAUSE_SECONDS
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.valkey import Valkey
from tests.unit.exchange.shared.conftest import MakeReplica, Replica

CALL_SECONDS = 0.2  # for a busy machine
CALLERS = 8
# What a call may take that finds the server gone: two calls to it, one exchange, and a slow machine.
SLOWEST = 2.0


class Load:
    """Calls by many users at both replicas, one after the other by each caller."""

    def __init__(self, replicas: list[Replica], idp: IdentityProvider) -> None:
        self._replicas = replicas
        self._idp = idp
        self._number = itertools.count()
        self.tokens: list[tuple[str, AccessToken]] = []
        self.slowest = 0.0
        self.over = asyncio.Event()

    async def calling(self) -> None:
        while not self.over.is_set():
            name = f"user-{next(self._number)}"
            for replica in self._replicas:
                await self.call(replica, name)

    async def call(self, replica: Replica, name: str) -> AccessToken:
        loop = asyncio.get_running_loop()
        started = loop.time()
        user = replica.user(self._idp.sign_in(sub=name), subject=name)
        token = await replica.token_for(user)
        self.slowest = max(self.slowest, loop.time() - started)
        self.tokens.append((name, token))
        return token


@asynccontextmanager
async def running(load: Load) -> AsyncIterator[None]:
    """Raises what any call raised."""
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(load.calling())
        try:
            yield
        finally:
            load.over.set()


@pytest.fixture
def replicas(replica: MakeReplica) -> list[Replica]:
    return [replica(seconds=CALL_SECONDS, wait=1) for _ in range(2)]


def pass_time(replicas: list[Replica], seconds: float) -> None:
    for each in replicas:
        each.time.monotonic += seconds


async def killed(valkey: Valkey) -> None:
    valkey.kill()


async def paused(valkey: Valkey) -> None:
    valkey.pause()


async def back(valkey: Valkey) -> None:
    await valkey.start()


async def resumed(valkey: Valkey) -> None:
    valkey.resume()


Change = Callable[[Valkey], Awaitable[None]]


@pytest.mark.parametrize(("goes", "comes"), [(killed, back), (paused, resumed)])
async def test_no_call_fails_and_none_is_slow(
    valkey: Valkey,
    replicas: list[Replica],
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    goes: Change,
    comes: Change,
) -> None:
    load = Load(replicas, idp)
    with structlog.testing.capture_logs() as log:
        async with running(load):
            await asyncio.sleep(0.5)
            before = len(load.tokens)
            await goes(valkey)
            await asyncio.sleep(1)
            without = len(load.tokens)
            await comes(valkey)
            pass_time(replicas, PAUSE_SECONDS)
            await asyncio.sleep(0.5)
        after = [await load.call(each, "the last") for each in replicas]

    assert before > CALLERS
    assert without > before + CALLERS
    for name, token in load.tokens:
        assert (token.subject, authorization_server.holders[token.value.reveal()]) == (name, name)
    assert load.slowest < SLOWEST
    assert [token.source for token in after] == [Source.EXCHANGE, Source.CACHE]
    events = [line["event"] for line in log]
    assert sorted(events) == ["shared_cache_back"] * 2 + ["shared_cache_lost"] * 2
    assert {line.get("fault") for line in log} <= {"ConnectionError", "TimeoutError", None}


async def test_a_dead_server_costs_one_call_in_a_while_and_not_one_each(
    valkey: Valkey, replicas: list[Replica], idp: IdentityProvider
) -> None:
    """A paused one accepts connections, and is what takes longest to notice."""
    load = Load(replicas[:1], idp)
    await load.call(replicas[0], "the first")
    valkey.pause()
    await load.call(replicas[0], "who notices")
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(20):
        await load.call(replicas[0], f"nobody-{number}")
    took = loop.time() - started
    valkey.resume()

    assert took / 20 < CALL_SECONDS


async def test_200_at_once_at_two_replicas_cost_one_exchange(
    replica: MakeReplica, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    replicas = [replica(seconds=2), replica(seconds=2)]
    load = Load(replicas, idp)

    await asyncio.gather(*(load.call(replicas[n % 2], "alice") for n in range(200)))

    sources = [token.source for _, token in load.tokens]
    assert (sources.count(Source.EXCHANGE), sources.count(Source.CACHE)) == (1, 1)
    assert sources.count(Source.JOINED) == 198
    assert (len(idp.token.calls), len(authorization_server.token.calls)) == (1, 1)


async def test_200_at_once_while_it_is_paused_cost_an_exchange_each_replica(
    valkey: Valkey,
    replicas: list[Replica],
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
) -> None:
    valkey.pause()
    load = Load(replicas, idp)

    await asyncio.gather(*(load.call(replicas[n % 2], "alice") for n in range(200)))

    valkey.resume()
    assert (len(idp.token.calls), len(authorization_server.token.calls)) == (2, 2)
    assert load.slowest < SLOWEST


async def test_an_answer_that_comes_late_is_not_taken_for_the_next_ones(
    valkey: Valkey,
    replicas: list[Replica],
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
) -> None:
    """Connections whose call was given up are not used again."""
    load = Load(replicas, idp)
    for number in range(5):
        await asyncio.gather(*(load.call(each, f"user-{number}") for each in replicas))
        valkey.pause()
        await asyncio.gather(*(load.call(each, f"late-{number}") for each in replicas))
        valkey.resume()
        pass_time(replicas, PAUSE_SECONDS)

    for name, token in load.tokens:
        assert (token.subject, authorization_server.holders[token.value.reveal()]) == (name, name)
