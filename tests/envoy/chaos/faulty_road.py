"""The road to a server, and what may happen on it: the server down, slow, or not what it was."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Final, Self

HOST: Final = "127.0.0.1"
Manner = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
_LENGTH: Final = re.compile(rb"^content-length: (\d+)\r$", re.IGNORECASE | re.MULTILINE)


class FaultyRoad:
    """Leads from `port` to the server at port `to` while the block runs.

    Every connection carries one request, so that a new `manner` holds from the next request on.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._under_way: set[asyncio.Task[None]] = set()
        self.port = 0
        self.manner: Manner = self.pass_on

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Lets connections in, at the same port as before."""
        self._server = await asyncio.start_server(self._connected, HOST, self.port, backlog=1000)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cuts what is under way, and refuses connections from now on."""
        self._server.close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def pass_on(self, request: bytes, back: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection(HOST, self._to)
        with contextlib.closing(writer):
            writer.write(request.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
            back.write(await reader.read())  # up to the end: the server closes after its answer

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            await self.manner(await _request(reader), writer)
            await writer.drain()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)
