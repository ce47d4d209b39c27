"""The same gRPC call again and again over bare HTTP/2 (RFC 9113), at a few microseconds a call.

A gRPC client in Python takes as long over a call as the server does. It would be the bottleneck of every
measurement, and since it takes as long with the floor as with us, it would flatter us.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

METHOD: Final = "/envoy.service.auth.v3.Authorization/Check"
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE: Final = 4
LARGEST_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
FRAME_HEAD: Final = 9
READ_BYTES: Final = 1 << 18
_HEADERS: Final = {
    ":method": "POST",
    ":scheme": "http",
    ":path": METHOD,
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
    "user-agent": "bench",
}


class CallFailed(Exception):
    """The server reset a stream or hung up, or an answer was not the one that is measured."""


class Calls:
    """A connection on which `request` is called; `latencies` are in seconds.

    Every answer has to hold the bytes `holds`, or the wrong thing was measured.
    """

    def __init__(self, path: Path, request: bytes, holds: bytes) -> None:
        self.latencies: list[float] = []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self._template = _template(request)
        self._holds = holds
        self._held = 0
        self._began: dict[int, float] = {}
        self._waiting = 0
        self._next_stream = 1
        self._window = DEFAULT_WINDOW
        self._buffer = bytearray()
        self._send_preface()

    def ask_next(self, request: bytes) -> None:
        """Has the calls that begin from here on ask another request."""
        self._template = _template(request)

    def call(self) -> None:
        """Begins a call, or has it wait until the server takes more bytes (RFC 9113 section 5.2)."""
        head, middle, body = self._template
        if self._window < len(body):
            self._waiting += 1
            return
        stream = self._next_stream
        name = stream.to_bytes(4, "big")
        self._next_stream += 2
        self._window -= len(body)
        self._began[stream] = time.perf_counter()
        self.sock.sendall(head + name + middle + name + body)

    def receive(self) -> int:
        """Reads what has come, waiting for something; gives the number of calls that ended."""
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise CallFailed("the server hung up")
        self._buffer += data
        before, at = len(self.latencies), 0
        while len(self._buffer) - at >= FRAME_HEAD:
            length = int.from_bytes(self._buffer[at : at + 3], "big")
            end = at + FRAME_HEAD + length
            if end > len(self._buffer):
                break
            self._frame(at, end)
            at = end
        del self._buffer[:at]
        return len(self.latencies) - before

    def close(self) -> None:
        """Closes the connection; raises `CallFailed` where an answer was not the expected one."""
        self.sock.close()
        if self._held != len(self.latencies):
            raise CallFailed(f"{len(self.latencies) - self._held} answers are not as expected")

    @property
    def is_busy(self) -> bool:
        return bool(self._began or self._waiting)

    def _frame(self, at: int, end: int) -> None:
        kind, flags = self._buffer[at + 3], self._buffer[at + 4]
        stream = int.from_bytes(self._buffer[at + 5 : at + FRAME_HEAD], "big")
        if kind == DATA:
            self._held += self._buffer.find(self._holds, at + FRAME_HEAD, end) >= 0
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.latencies.append(time.perf_counter() - self._began.pop(stream))
        elif kind in (SETTINGS, PING) and not flags & ACK:
            payload = bytes(self._buffer[at + FRAME_HEAD : end]) if kind == PING else b""
            self.sock.sendall(frame(kind, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._widen(int.from_bytes(self._buffer[at + FRAME_HEAD : end], "big"))
        elif kind in (RST_STREAM, GOAWAY):
            raise CallFailed(f"the server sent a frame of kind {kind}")

    def _widen(self, by: int) -> None:
        self._window += by
        waiting, self._waiting = self._waiting, 0
        for _ in range(waiting):
            self.call()

    def _send_preface(self) -> None:
        """With windows that never fill: to acknowledge bytes would be work of ours."""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
        more = (LARGEST_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big")
        preface = PREFACE + frame(SETTINGS, payload=settings)
        self.sock.sendall(preface + frame(WINDOW_UPDATE, payload=more))


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return _head(kind, flags, len(payload)) + stream.to_bytes(4, "big") + payload


def _head(kind: int, flags: int, length: int) -> bytes:
    return length.to_bytes(3, "big") + bytes([kind, flags])


def _template(request: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before, between and after the two places of the stream's number."""
    block = _header_block(_HEADERS)
    message = (
        b"\0" + len(request).to_bytes(4, "big") + request
    )  # gRPC: not compressed, and its length
    return (
        _head(HEADERS, END_HEADERS, len(block)),
        block + _head(DATA, END_STREAM, len(message)),
        message,
    )


def _header_block(fields: Mapping[str, str]) -> bytes:
    """Each field a literal without indexing (RFC 7541 section 6.2.2), all of them short."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
