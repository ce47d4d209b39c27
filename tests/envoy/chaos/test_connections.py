"""Connections in masses and of the malicious kind: calls go on beside them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import grpc
import pytest

from tests.envoy.chaos.gateway import Gateway, Replica, until
from tests.envoy.chaos.http2 import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    PING,
    Peer,
    header_block,
)
from tests.envoy.chaos.load import CALL, Load, borne
from tests.envoy.mcp_call import bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")

IDLE = 1000
PINGS = 50
RESET_SECONDS = 3
RECOVERY_SECONDS = 2  # one, and as much again for a machine with other things to do
GRPC = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/envoy.service.auth.v3.Authorization/Check",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}
MCP = {":method": "GET", ":scheme": "http", ":path": "/crm/mcp", ":authority": "front"}

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def to_service(replica: Replica) -> Connect:
    return lambda: asyncio.open_unix_connection(replica.socket)


def to_envoy(gate: Gateway) -> Connect:
    address = urlsplit(gate.url)
    return lambda: asyncio.open_connection(address.hostname, address.port)


@contextlib.asynccontextmanager
async def http2(connect: Connect) -> AsyncIterator[Peer]:
    peer = Peer(*await connect())
    with contextlib.closing(peer):
        await peer.greet()
        yield peer


async def assert_nobody_waits(gate: Gateway) -> None:
    """Neither who has an access token, nor who gets one now."""
    users = await gate.warm_users()
    for caller in (users[0], gate.user()):
        answer = await gate.call(caller)
        assert answer.status == 200
        assert answer.seconds < 1


# ---- idle


async def one_thousand(connect: Connect, stack: contextlib.AsyncExitStack) -> None:
    """Opens them; they say nothing, and are closed with `stack`."""
    for _ in range(IDLE):
        _reader, writer = await connect()
        stack.callback(writer.close)


async def test_a_thousand_idle_clients_of_envoy_slow_nobody_down(gate: Gateway) -> None:
    async with contextlib.AsyncExitStack() as idle:
        await one_thousand(to_envoy(gate), idle)

        await assert_nobody_waits(gate)


async def test_a_thousand_idle_connections_to_each_replica_slow_nobody_down(gate: Gateway) -> None:
    async with contextlib.AsyncExitStack() as idle:
        for replica in gate.replicas:
            await one_thousand(to_service(replica), idle)

        await assert_nobody_waits(gate)


# ---- rapid reset (CVE-2023-44487): requests called off faster than they can be served


async def reset_rapidly(connect: Connect, headers: bytes, flags: int = END_HEADERS) -> int:
    """How many requests were called off; each connection that is cut is followed by another."""
    end, count = time.monotonic() + RESET_SECONDS, 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            async with http2(connect) as peer:
                while time.monotonic() < end:
                    await peer.open_and_reset(headers, flags)
                    count += 1
    return count


async def test_rapid_reset_of_a_replica_is_noticed_by_no_user(gate: Gateway) -> None:
    attacked = gate.replicas[0]
    load = Load(gate.url, (*await gate.warm_users(), gate.stranger()), rate=40)
    async with load.going():
        resets = await reset_rapidly(to_service(attacked), header_block(GRPC))

        async def answers() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await attacked.warm([gate.user()])
                return True
            return False

        await until(answers, RECOVERY_SECONDS)
    result = borne(load.answers, gate.upstream)

    assert resets > 1000
    assert result.errors == []
    assert result.wrong_allows == []


async def test_rapid_reset_of_envoy_is_noticed_by_no_other_user(gate: Gateway) -> None:
    """The attacker is a user: every request costs a Check before it is called off."""
    load = Load(gate.url, (*await gate.warm_users(), gate.stranger()), rate=40)
    headers = header_block({**MCP, **bearer(gate.user().token)})
    async with load.going():
        resets = await reset_rapidly(to_envoy(gate), headers, END_HEADERS | END_STREAM)
        newcomer = await gate.call(gate.user())
    gate.upstream.heard[:] = [heard for heard in gate.upstream.heard if CALL in heard.headers]
    result = borne([*load.answers, newcomer], gate.upstream)

    assert resets > 1000
    assert newcomer.seconds < RECOVERY_SECONDS
    assert result.errors == []
    assert result.wrong_allows == []


# ---- keepalive


async def test_envoy_may_ping_an_idle_connection_as_often_as_it_likes(gate: Gateway) -> None:
    """GRPC's default is to hang up after a few, and Envoy pings each second."""
    payloads = [number.to_bytes(8, "big") for number in range(PINGS)]
    async with http2(to_service(gate.replicas[0])) as envoy:
        for payload in payloads:
            await envoy.ping(payload)

        assert await echoes(envoy) == payloads


async def echoes(pinging: Peer) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(10):
        while len(found) < PINGS:
            kind, flags, payload = await pinging.receive()
            assert kind != GOAWAY
            if kind == PING and flags == ACK:
                found.append(payload)
    return found
