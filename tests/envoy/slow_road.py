"""A road to a loopback port on which every connection takes its time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def slow_road(port: int, seconds: float) -> AsyncIterator[int]:
    """The port at which it begins; it leads to `port` while the block runs."""
    travellers: set[asyncio.Task[None] | None] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        travellers.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.sleep(seconds)
            onward, back = await asyncio.open_connection(HOST, port)
            await asyncio.gather(_pour(reader, back), _pour(onward, writer))

    async with await asyncio.start_server(carry, HOST, 0) as server:
        yield int(server.sockets[0].getsockname()[1])
        for traveller in filter(None, travellers):
            traveller.cancel()
        await asyncio.gather(*filter(None, travellers))


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
