"""HTTP/2 in bare frames (RFC 9113): what no well-behaved client would send."""

import asyncio
import contextlib
import struct
from collections.abc import Mapping
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 3, 4, 6, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4
CANCEL: Final = struct.pack(">I", 8)
LONG: Final = 127  # a length that takes more than the seven bits of its byte


class Peer:
    """The client's side of one connection. Whatever it may not send, it sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stream = -1

    async def greet(self) -> None:
        self._writer.write(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
        await self._writer.drain()

    async def ping(self, payload: bytes) -> None:
        self._writer.write(frame(PING, payload=payload))
        await self._writer.drain()

    async def open_and_reset(self, headers: bytes, flags: int = END_HEADERS) -> None:
        """A request that is called off at once."""
        self._stream += 2
        opened = frame(HEADERS, flags, self._stream, headers)
        self._writer.write(opened + frame(RST_STREAM, 0, self._stream, CANCEL))
        await self._writer.drain()

    async def receive(self) -> tuple[int, int, bytes]:
        """The next frame's kind, flags and payload."""
        head = await self._reader.readexactly(9)
        return head[3], head[4], await self._reader.readexactly(int.from_bytes(head[:3], "big"))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(fields: Mapping[str, str]) -> bytes:
    """Each field a literal without indexing (RFC 7541 section 6.2.2)."""
    return b"".join(
        b"\x00" + _literal(name.encode()) + _literal(value.encode())
        for name, value in fields.items()
    )


def _literal(text: bytes) -> bytes:
    """`text` behind its length (RFC 7541 sections 5.1 and 5.2)."""
    if len(text) < LONG:
        return bytes([len(text)]) + text
    length, rest = bytes([LONG]), len(text) - LONG
    while rest >= 128:
        length, rest = length + bytes([rest % 128 + 128]), rest // 128
    return length + bytes([rest]) + text
