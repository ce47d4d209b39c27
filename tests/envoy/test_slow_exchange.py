"""Providers that take their time: Envoy's tries come and go, the exchange is made once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ext_authz.demo.figures import json_lines
from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.fronts import envoy, service
from tests.envoy.mcp_call import call
from tests.envoy.recorder import Recorder
from tests.envoy.slow_road import slow_road

AT_ONCE = 20  # more than the three retries at a time that Envoy makes by default
LEG_SECONDS = 1.7  # both: longer than one of Envoy's tries, shorter than `timeouts.exchange`


@pytest.fixture
async def slow_front(world: World, own_front: Front) -> AsyncIterator[Front]:
    """A running front, each of whose two legs takes `LEG_SECONDS`."""
    async with contextlib.AsyncExitStack() as stack:
        for issuer, port in (
            (world.identity_provider.issuer, world.ports.identity_provider),
            (world.crm.issuer, world.ports.crm),
        ):
            start = await stack.enter_async_context(slow_road(port, LEG_SECONDS))
            _lead_over(own_front, issuer, start)
        await stack.enter_async_context(service(own_front))
        await stack.enter_async_context(envoy(own_front))
        yield own_front


def _lead_over(front: Front, issuer: str, port: int) -> None:
    """Has the front's service reach the token endpoint of `issuer` by way of `port`."""
    text = front.configuration.read_text()
    line = f"- issuer: {issuer}\n"
    assert line in text
    endpoint = f"        token_endpoint: http://127.0.0.1:{port}/token\n"
    front.configuration.write_text(text.replace(line, line + endpoint))


async def test_first_calls_longer_than_one_try_all_succeed_and_cost_one_exchange(
    world: World, slow_front: Front, recorder: Recorder, alice: str
) -> None:
    before = world.counts()
    url = slow_front.server_url("crm")
    answers = await asyncio.gather(*(call(url, alice) for _ in range(AT_ONCE)))
    after = world.counts()
    records = [(r["verdict"], r["token_source"]) for r in json_lines(slow_front.audit_file)]

    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.elapsed.total_seconds() > 3 for answer in answers)
    assert after.leg1 - before.leg1 == 1
    assert after.leg2["crm"] - before.leg2["crm"] == 1
    assert records == [("abandoned", None)] * AT_ONCE + [("allow", "joined")] * AT_ONCE
    assert len(recorder.heard) == AT_ONCE


async def test_a_client_that_leaves_early_leaves_the_token_to_the_next_call(
    world: World, slow_front: Front, recorder: Recorder, alice: str
) -> None:
    before = world.counts()
    url = slow_front.server_url("crm")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await call(url, alice)
    answer = await call(url, alice)
    after = world.counts()
    records = [(r["verdict"], r["token_source"]) for r in json_lines(slow_front.audit_file)]

    assert answer.status_code == 200
    assert after.leg1 - before.leg1 == 1
    assert after.leg2["crm"] - before.leg2["crm"] == 1
    assert records[0] == ("abandoned", None)
    assert records[-1] == ("allow", "joined")
    assert len(recorder.heard) == 1
