"""The service does not answer: a 503 that MCP clients can read, and no request goes on."""

import asyncio
import signal
import time

import httpx2

from ext_authz.demo.front import Front
from tests.envoy.fronts import envoy, service
from tests.envoy.mcp_call import call
from tests.envoy.recorder import Recorder

CHECK_SECONDS = 6  # `grpc_service.timeout` of envoy.yaml
BACK_WITHIN_SECONDS = 10


def assert_unavailable(answer: httpx2.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {
            "code": -32001,
            "message": "Authorization is temporarily unavailable.",
            "data": {"reason": "service_unavailable"},
        },
    }


async def until_served(url: str, token: str) -> None:
    deadline = time.monotonic() + BACK_WITHIN_SECONDS
    while (await call(url, token)).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_service_that_was_never_there_is_a_503_at_once(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    async with envoy(own_front):
        began = time.monotonic()
        assert_unavailable(await call(own_front.server_url("crm"), alice))
        assert_unavailable(await call(own_front.server_url("crm")))

    assert time.monotonic() - began < 2
    assert recorder.heard == []


async def test_killed_it_is_a_503_and_once_it_is_back_all_is_well(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    url = own_front.server_url("crm")
    async with envoy(own_front):
        async with service(own_front) as running:
            await until_served(url, alice)
            recorder.heard.clear()
            running.send_signal(signal.SIGKILL)
            await running.wait()
            assert_unavailable(await call(url, alice))
            assert recorder.heard == []
        async with service(own_front):
            await until_served(url, alice)


async def test_hanging_it_is_a_503_in_time_and_once_it_goes_on_all_is_well(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    url = own_front.server_url("crm")
    async with service(own_front) as running, envoy(own_front):
        await until_served(url, alice)
        recorder.heard.clear()
        running.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert_unavailable(await call(url, alice))
            assert time.monotonic() - began < CHECK_SECONDS + 1
            assert recorder.heard == []
        finally:
            running.send_signal(signal.SIGCONT)
        await until_served(url, alice)


async def test_stopped_in_order_it_lets_go_of_nobody(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    """SIGTERM under load: each call is served or told to come again, and none goes astray."""
    url = own_front.server_url("crm")
    async with service(own_front) as running, envoy(own_front):
        await until_served(url, alice)
        recorder.heard.clear()
        calls = [asyncio.create_task(call(url, alice)) for _ in range(50)]
        await asyncio.sleep(0.05)
        running.terminate()
        answers = await asyncio.gather(*calls)
        assert await running.wait() == 0

    served = [answer for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer not in served:
            assert_unavailable(answer)
    assert len(served) == len(recorder.heard)
