"""Puts load on Check servers and says how they bore it."""

import selectors
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from bench.http2 import METHOD, Calls

if TYPE_CHECKING:
    import grpc

__all__ = ["ALLOWED", "METHOD", "Ask", "Borne", "bear"]

Ask: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"
ALLOWED: Final = b"Bearer "  # what only an allow has in it
PERCENT: Final = 100
WARM_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Borne:
    """`p50` and `p99` in seconds for one answer; `throughput` in answers a second.

    `generator` is the share of the time in which the generator worked: near 1, it is what was measured.
    """

    p50: float
    p99: float
    throughput: float
    generator: float


def bear(sockets: Sequence[Path], request: bytes, *, streams: int, seconds: float) -> Borne:
    """Asks `request` of each of the servers over so many streams for so long; raises `CallFailed`.

    Blocks the thread: an event loop's work between two calls would be measured too.
    """
    _calls(sockets, request, streams, min(WARM_SECONDS, seconds))
    busy, began = time.thread_time(), time.perf_counter()
    latencies = _calls(sockets, request, streams, seconds)
    spent = time.perf_counter() - began
    return borne(latencies, spent, (time.thread_time() - busy) / spent)


def borne(latencies: Sequence[float], spent: float, generator: float) -> Borne:
    """From the latencies of calls that took `spent` seconds together."""
    cuts = statistics.quantiles(latencies, n=PERCENT)
    return Borne(
        p50=cuts[PERCENT // 2 - 1],
        p99=cuts[PERCENT - 2],
        throughput=len(latencies) / spent,
        generator=generator,
    )


def _calls(sockets: Sequence[Path], request: bytes, streams: int, seconds: float) -> list[float]:
    connections = [Calls(socket, request, ALLOWED) for socket in sockets]
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.sock, selectors.EVENT_READ, connection)
            for _ in range(streams):
                connection.call()
        _keep_calling(selector, time.perf_counter() + seconds)
        while any(connection.is_busy for connection in connections):
            _receive(selector)
    for connection in connections:
        with closing(connection):
            pass
    return [latency for connection in connections for latency in connection.latencies]


def _keep_calling(selector: selectors.BaseSelector, until: float) -> None:
    while time.perf_counter() < until:
        for connection, ended in _receive(selector):
            for _ in range(ended):
                connection.call()


def _receive(selector: selectors.BaseSelector) -> list[tuple[Calls, int]]:
    ready = [key.data for key, _ in selector.select()]
    return [(connection, connection.receive()) for connection in ready]
