"""The generator against a real gRPC server: it counts whole answers, and takes no other for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from bench.http2 import CallFailed
from bench.load import ALLOWED, bear

BIG = b"x" * 3_000  # so that the streams together fill the server's first window


@asynccontextmanager
async def serving(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    heard: list[bytes] = []

    async def check(request: bytes, _context: object) -> bytes:
        heard.append(request)
        return answer

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    service = "envoy.service.auth.v3.Authorization"
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Check": handler}),)
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield heard
    finally:
        await server.stop(None)


@pytest.mark.parametrize("streams", [1, 64])
async def test_every_answer_is_counted_and_every_request_arrives_whole(
    tmp_path: Path, streams: int
) -> None:
    socket = tmp_path / "check.sock"
    async with serving(socket, ALLOWED + b"token") as heard:
        borne = await asyncio.to_thread(bear, [socket], BIG, streams=streams, seconds=0.3)

    assert set(heard) == {BIG}
    assert 0 < borne.throughput * 0.3 <= len(heard)
    assert 0 < borne.p50 <= borne.p99
    assert 0 < borne.generator <= 1


async def test_an_answer_that_is_no_allow_is_an_error(tmp_path: Path) -> None:
    socket = tmp_path / "check.sock"
    async with serving(socket, b"denied"):
        with pytest.raises(CallFailed):
            await asyncio.to_thread(bear, [socket], BIG, streams=2, seconds=0.1)
