"""A peer on a loopback port that speaks raw bytes, and so can say what no HTTP library would."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Self


class Line:
    """One connection, from the peer's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hear(self) -> bytes:
        """The next request, head and body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        return head + await self._reader.readexactly(int(length[1]) if length else 0)

    async def say(self, piece: bytes) -> None:
        self._writer.write(piece)
        await self._writer.drain()

    async def encrypt(self, context: ssl.SSLContext) -> None:
        await self._writer.start_tls(context)


class RawPeer:
    """Has the same talk on every connection; counts them, and keeps the requests it heard."""

    def __init__(self, talk: "Talk") -> None:
        self._talk = talk
        self._talks: list[asyncio.Task[None]] = []
        self.heard: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    @property
    def connections(self) -> int:
        return len(self._talks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks.append(asyncio.create_task(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            await self._talk(self, Line(reader, writer))


Talk = Callable[[RawPeer, Line], Awaitable[None]]


def saying(*pieces: bytes, every: float = 0.0, hangs_up: bool = False) -> Talk:
    """To each request says `pieces`, pausing after each; then hangs up, or listens on."""

    async def talk(peer: RawPeer, line: Line) -> None:
        listens = True
        while listens:
            peer.heard.append(await line.hear())
            for piece in pieces:
                await line.say(piece)
                await asyncio.sleep(every)
            listens = not hangs_up

    return talk


def answer(body: bytes = b"{}", *lines: str, status: str = "200 OK") -> bytes:
    """A whole answer: status, the header lines given, the body's length, and the body."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"content-length: {len(body)}"])
    return f"{head}\r\n\r\n".encode() + body
