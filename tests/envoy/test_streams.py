"""Streams go through the front as they come, for as long as they last."""

import asyncio
import contextlib
import time
from itertools import pairwise

import httpx2

from ext_authz.demo.client import Era, connect
from ext_authz.demo.front import Front
from tests.envoy.mcp_call import bearer
from tests.envoy.test_eras import ERAS, INITIALIZE

LONGER_THAN_ENVOYS_DEFAULT = 16


@ERAS
async def test_progress_arrives_piece_by_piece_long_before_the_end(
    front: Front, alice: str, era: Era
) -> None:
    async with connect(front.server_url("crm"), alice, era=era) as crm:
        began = time.monotonic()
        answer, pieces = await crm.call_watching("watch_tickets", count=4, delay_seconds=0.4)
        whole = time.monotonic() - began

    arrivals = [piece.seconds for piece in pieces]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert answer.text == "4 changes"
    assert arrivals[0] < whole - 1.2
    assert all(0.2 < gap < 0.8 for gap in gaps), gaps


async def test_a_stream_outlives_the_15_s_after_which_envoy_ends_responses_by_default(
    front: Front, alice: str
) -> None:
    async with asyncio.timeout(LONGER_THAN_ENVOYS_DEFAULT + 10):
        await asyncio.gather(
            _a_get_stream_stays_open(front, alice), _a_long_call_is_answered(front, alice)
        )


async def _a_get_stream_stays_open(front: Front, token: str) -> None:
    """Nothing but pings comes on it, and it does not end."""
    accept = {"accept": "application/json, text/event-stream"}
    url = front.server_url("wiki")
    async with httpx2.AsyncClient(trust_env=False, headers={**bearer(token), **accept}) as http:
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        opened = await http.post(url, json=message)
        http.headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        async with http.stream("GET", url, timeout=60) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            pieces = await _pieces(stream, LONGER_THAN_ENVOYS_DEFAULT)
    assert all(piece.startswith(": ping") for piece in pieces), pieces


async def _pieces(stream: httpx2.Response, seconds: float) -> list[str]:
    """What comes in that time; should the stream end before, that too."""
    pieces = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for piece in stream.aiter_text():
                pieces.append(piece)  # noqa: PERF401 - a comprehension would be lost at the timeout
            pieces.append("the end")
    return pieces


async def _a_long_call_is_answered(front: Front, token: str) -> None:
    seconds = LONGER_THAN_ENVOYS_DEFAULT / 2
    async with connect(front.server_url("crm"), token, era=Era.STATELESS) as crm:
        answer = await crm.call("watch_tickets", count=2, delay_seconds=seconds)
    assert answer.text == "2 changes"
