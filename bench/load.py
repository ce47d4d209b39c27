"""Puts load on a Check server and says how it bore it."""

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import TypeAlias

import grpc

Ask: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"
METHOD = "/envoy.service.auth.v3.Authorization/Check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Borne:
    """`p50` in seconds for one answer; `throughput` in answers a second."""

    p50: float
    throughput: float


async def bear(socket: str, request: bytes, *, streams: int, seconds: float) -> Borne:
    """Asks `request` again and again over so many streams for so long; raises on any error."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        ask: Ask = channel.unary_unary(METHOD)
        await ask(request, wait_for_ready=True)
        began = time.perf_counter()

        async def stream() -> None:
            while (now := time.perf_counter()) < began + seconds:
                await ask(request)
                latencies.append(time.perf_counter() - now)

        await asyncio.gather(*(stream() for _ in range(streams)))
    spent = time.perf_counter() - began
    return Borne(
        p50=statistics.median(latencies),
        throughput=len(latencies) / spent,
    )
