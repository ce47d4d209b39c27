"""An upstream that keeps the very bytes it is sent, and answers everything alike."""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_LENGTH: Final = re.compile(rb"^content-length: (\d+)\r$", re.IGNORECASE | re.MULTILINE)
_CHUNKED: Final = re.compile(rb"^transfer-encoding: chunked\r$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request, as it stood on the wire. A chunked body is kept without its chunk lines."""

    head: bytes
    body: bytes

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def headers(self) -> Mapping[str, tuple[str, ...]]:
        """All values of each name, in lower case."""
        found: dict[str, tuple[str, ...]] = {}
        for line in self.head.decode().split("\r\n")[1:-2]:
            name, _, value = line.partition(":")
            found[name.lower()] = (*found.get(name.lower(), ()), value.strip())
        return found

    def __contains__(self, piece: str) -> bool:
        """Whether `piece` stands anywhere in it."""
        return piece.encode() in self.head + self.body


class Recorder:
    """Serves on a loopback port while the block runs. `answer` may be changed at any time."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answer = OK
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=2**21)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                self.heard.append(await _hear(reader))
                writer.write(self.answer)
                await writer.drain()
        writer.close()
        self._talks.discard(task)


async def _hear(reader: asyncio.StreamReader) -> Heard:
    head = await reader.readuntil(b"\r\n\r\n")
    if _CHUNKED.search(head):
        return Heard(head=head, body=await _chunks(reader))
    length = _LENGTH.search(head)
    return Heard(head=head, body=await reader.readexactly(int(length[1]) if length else 0))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """All chunks, and what stands behind them as trailers."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (line := await reader.readline()) != b"\r\n":
        body += line
    return body
