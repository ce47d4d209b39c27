"""`envoy.service.accesslog.v3.AccessLogService`: takes the access log that Envoy sends.

A message is taken whole before the next one is read. So where the audit is slow, Envoy's own buffer
fills, which is bounded; and nothing that comes here can take the place of a Check.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final

import grpc

from ext_authz._protos.access_log_pb2 import DESCRIPTOR, StreamAccessLogsResponse
from ext_authz.access_log.entry import Entry, Unreadable, read_entries
from ext_authz.access_log.outcomes import Outcomes
from ext_authz.log import Logger, logger, place_of

SERVICE: Final = DESCRIPTOR.services_by_name["AccessLogService"].full_name
MAX_STREAMS: Final = 256  # each of an Envoy's workers has one
_AT_ONCE: Final = 32  # entries that the audit may write together
_LAST_SECONDS: Final = 1.0  # for what had come before the end
_QUIET_SECONDS: Final = 0.5  # until Envoy knows that we go, and keeps what it would send
_log: Final[Logger] = logger("access_log")

Context = grpc.aio.ServicerContext[bytes, bytes]


class AccessLogStreams:
    """The streams of Envoy's access log. What cannot be read ends its stream, without a word."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._streams: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Ends every stream, after what has come on it already: none of them would end by itself.

        Takes a second at most. Envoy opens its next stream elsewhere, or here if there is a service again.
        """
        self._ended.set()
        loop = asyncio.get_running_loop()
        for stream in self._streams:
            loop.call_later(_LAST_SECONDS, stream.cancel)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server serves it with."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
            self.take
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})

    async def take(self, _messages: object, context: Context) -> bytes:
        """Takes what comes until Envoy ends it, or `end` does."""
        if len(self._streams) >= MAX_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        # A task of its own: should Envoy be gone, what it sent is recorded all the same.
        stream = asyncio.create_task(self._take_all(context))
        self._streams.add(stream)
        stream.add_done_callback(self._gone)
        await asyncio.wait({stream})
        if (code := _failure(stream)) is not None:
            await context.abort(code, "")  # grpc would send an exception's text to the peer
        return StreamAccessLogsResponse().SerializeToString()

    def _gone(self, stream: asyncio.Task[None]) -> None:
        self._streams.discard(stream)
        if stream.cancelled():
            _log.error("access_log_lost", why="not recorded before the end")
        elif (error := stream.exception()) is not None:
            _log.error("access_log_lost", exception=type(error).__name__, at=place_of(error))

    async def _take_all(self, context: Context) -> None:
        ended = asyncio.create_task(self._ended.wait())
        try:
            while (message := await _next(context, ended)) is not None:
                await self._take(read_entries(message))
        finally:
            ended.cancel()

    async def _take(self, entries: Iterator[Entry]) -> None:
        """All of them before the next message is read; some at a time, since they wait together."""
        while some := [*islice(entries, _AT_ONCE)]:
            await asyncio.gather(*(self._outcomes.take(entry) for entry in some))


def _failure(stream: asyncio.Task[None]) -> grpc.StatusCode | None:
    """What the peer is told; None where all is well."""
    if stream.cancelled():
        return grpc.StatusCode.UNAVAILABLE
    match stream.exception():
        case None:
            return None
        case Unreadable():
            return grpc.StatusCode.INVALID_ARGUMENT
        case _:
            return grpc.StatusCode.INTERNAL


async def _next(context: Context, ended: asyncio.Task[bool]) -> bytes | None:
    """The next message; None when there is none, or none comes although `ended`."""
    reading = asyncio.ensure_future(context.read())
    await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({reading}, timeout=_QUIET_SECONDS)
    if not reading.done():
        reading.cancel()
        return None
    message = None if reading.cancelled() else reading.result()
    return message if isinstance(message, bytes) else None
