"""More Checks at once than a replica takes: what is too much is refused at once, in plain words."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from tests.envoy.chaos.gateway import Gateway, gateway
from tests.envoy.chaos.load import call
from tests.envoy.chaos.narrow_service import ROOM
from tests.envoy.mcp_call import http_client

NARROW = "tests.envoy.chaos.narrow_service"
TOO_MANY = 40
HELD_SECONDS = 2  # below `timeouts.call`


async def test_what_is_too_much_is_refused_at_once_until_there_is_room_again(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, replicas=["one"], module=NARROW) as gate, http_client() as http:
        (user, *_), newcomer, release = await gate.warm_users(), gate.user(), hold(gate)
        calls = []
        for number in (ROOM + TOO_MANY, TOO_MANY):  # a health check may have had a place at first
            calls += [asyncio.create_task(call(http, gate.url, newcomer)) for _ in range(number)]
            await asyncio.sleep(HELD_SECONDS / 2)

        turned_away = await http.post(gate.url)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await gate.replicas[0].warm([user])
        assert gate.upstream.heard == []
        release.set()
        answers = await asyncio.gather(*calls)
        released = time.monotonic()
        while (await gate.call(user)).status != 200:
            assert time.monotonic() - released < 1

    assert turned_away.status_code == 503
    assert turned_away.headers["retry-after"] == "1"
    assert turned_away.json()["error"]["data"] == {"reason": "service_unavailable"}
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert Counter(answer.status for answer in answers) == {200: ROOM, 503: 2 * TOO_MANY}
    assert max(answer.seconds for answer in answers if answer.status == 503) < 1


def hold(gate: Gateway) -> asyncio.Event:
    """Lets no exchange go on before the event."""
    release = asyncio.Event()

    async def wait(request: bytes, back: asyncio.StreamWriter) -> None:
        await release.wait()
        await gate.idp_road.pass_on(request, back)

    gate.idp_road.manner = wait
    return release
