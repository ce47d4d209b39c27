"""HTTP/2 frames by hand, for a peer that holds and resets what no gRPC library would."""

import socket
from itertools import count
from pathlib import Path
from typing import Final, Self

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
_HEADERS, _RST_STREAM, _SETTINGS = 1, 3, 4
_END_HEADERS: Final = 4
_CANCEL: Final = (8).to_bytes(4, "big")


def _frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def _literal(name: str, value: str) -> bytes:
    """RFC 7541 section 6.2.2, without Huffman's code: lengths stay below 127."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


_CALL: Final = b"".join(
    _literal(name, value)
    for name, value in {
        ":method": "POST",
        ":scheme": "http",
        ":path": CHECK,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }.items()
)


class RawPeer:
    """One connection to the Unix socket, open while the block runs."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._streams = count(1, 2)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def greet(self) -> None:
        self._socket.sendall(PREFACE + _frame(_SETTINGS))

    def begin_calls(self, number: int, *, reset: bool) -> None:
        """So many calls of Check without a message, each given up at once where `reset` says so."""
        frames = []
        for stream in (next(self._streams) for _ in range(number)):
            frames.append(_frame(_HEADERS, _CALL, flags=_END_HEADERS, stream=stream))
            if reset:
                frames.append(_frame(_RST_STREAM, _CANCEL, stream=stream))
        self._socket.sendall(b"".join(frames))
