"""Single questions to a Check server, and many at the same time."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc

from bench.load import METHOD, Ask
from ext_authz._protos.external_auth_pb2 import CheckResponse


async def allow(socket: Path, request: bytes) -> bytes:
    """The answer, which has to be an allow."""
    (answer,) = await at_once(socket, [request])
    if not is_allow(answer):
        raise RuntimeError(f"denied: {CheckResponse.FromString(answer)}")
    return answer


async def at_once(socket: Path, requests: Sequence[bytes]) -> Sequence[bytes]:
    """The answers to all of them, asked at the same time."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        ask: Ask = channel.unary_unary(METHOD)
        return await asyncio.gather(*(ask(request) for request in requests))


def is_allow(answer: bytes) -> bool:
    return CheckResponse.FromString(answer).HasField("ok_response")
