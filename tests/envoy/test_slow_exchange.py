"""Providers that take their time: Envoy's tries come and go, the exchange is made once."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.doubles.audit_records import records_in
from tests.envoy.fronts import envoy, service
from tests.envoy.mcp_call import call
from tests.envoy.recorder import Recorder
from tests.envoy.slow_road import slow_road

AT_ONCE = 20  # more than the three retries at a time that Envoy makes by default
LEG_SECONDS = 1.3  # both together are well within `timeouts.exchange`
TRY_SECONDS = 2  # and longer than this


@contextlib.asynccontextmanager
async def running_with_slow_legs(front: Front, world: World) -> AsyncIterator[None]:
    """Runs `front`; each of the two legs takes `LEG_SECONDS`."""
    async with contextlib.AsyncExitStack() as stack:
        for issuer, port in (
            (world.identity_provider.issuer, world.ports.identity_provider),
            (world.crm.issuer, world.ports.crm),
        ):
            start = await stack.enter_async_context(slow_road(port, LEG_SECONDS))
            endpoint = f"        token_endpoint: http://127.0.0.1:{start}/token\n"
            edit(front, rf"(- issuer: {issuer}\n)", rf"\1{endpoint}")
        await stack.enter_async_context(service(front))
        await stack.enter_async_context(envoy(front))
        yield


def edit(front: Front, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, front.configuration.read_text())
    assert count == 1
    front.configuration.write_text(text)


@contextlib.contextmanager
def costing_one_exchange(world: World) -> Iterator[None]:
    """The block makes one leg 1, and one leg 2 at the CRM."""
    before = world.counts()
    yield
    after = world.counts()
    assert after.leg1 - before.leg1 == 1
    assert after.leg2["crm"] - before.leg2["crm"] == 1


def audited(front: Front) -> list[tuple[str, str | None]]:
    return [(r["verdict"], r["token_source"]) for r in records_in(front.audit_file)]


async def test_first_calls_that_take_seconds_all_succeed_and_cost_one_exchange(
    world: World, own_front: Front, recorder: Recorder, alice: str
) -> None:
    url = own_front.server_url("crm")
    async with running_with_slow_legs(own_front, world):
        with costing_one_exchange(world):
            answers = await asyncio.gather(*(call(url, alice) for _ in range(AT_ONCE)))

    assert {answer.status_code for answer in answers} == {200}
    assert audited(own_front) == [("allow", "exchange")] + [("allow", "joined")] * (AT_ONCE - 1)
    assert len(recorder.heard) == AT_ONCE


async def test_where_envoy_tries_again_meanwhile_it_is_still_one_exchange(
    world: World, own_front: Front, recorder: Recorder, alice: str
) -> None:
    url = own_front.server_url("crm")
    edit(own_front, r"max_interval: [0-9.]+s", f"max_interval: {TRY_SECONDS}s")
    async with running_with_slow_legs(own_front, world):
        with costing_one_exchange(world):
            answers = await asyncio.gather(*(call(url, alice) for _ in range(AT_ONCE)))

    assert {answer.status_code for answer in answers} == {200}
    assert audited(own_front) == [("abandoned", None)] * AT_ONCE + [("allow", "joined")] * AT_ONCE
    assert len(recorder.heard) == AT_ONCE


async def test_a_client_that_leaves_early_leaves_the_token_to_the_next_call(
    world: World, own_front: Front, recorder: Recorder, alice: str
) -> None:
    url = own_front.server_url("crm")
    async with running_with_slow_legs(own_front, world):
        with costing_one_exchange(world):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await call(url, alice)
            answer = await call(url, alice)

    assert answer.status_code == 200
    assert audited(own_front) == [("abandoned", None), ("allow", "joined")]
    assert len(recorder.heard) == 1
