"""The same HTTP/1.1 request again and again on one kept connection, from a socket and nothing else."""

import re
import socket
import time
from collections.abc import Mapping
from typing import Final

from bench.load import WARM_SECONDS, Borne, borne

READ_BYTES: Final = 65_536
SECONDS_TO_ANSWER: Final = 10
HEAD_END: Final = b"\r\n\r\n"
LAST_CHUNK: Final = (
    b"0\r\n\r\n"  # of an answer without a length, which is chunked (RFC 9112 section 7.1)
)
_OK: Final = b"HTTP/1.1 200 "
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class NotOk(Exception):
    """An answer was not a 200; the message is its beginning."""


def post(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"content-length: {len(body)}"])
    return head.encode() + HEAD_END + body


def bear_http(
    address: tuple[str, int], request: bytes, *, seconds: float, holds: bytes = b""
) -> Borne:
    """One caller's calls, each begun when the one before has been answered.

    Raises `NotOk` where an answer is no 200 or does not hold the bytes `holds`.
    """
    with socket.create_connection(address, timeout=SECONDS_TO_ANSWER) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _call_for(sock, request, holds, min(WARM_SECONDS, seconds))
        busy, began = time.thread_time(), time.perf_counter()
        latencies = _call_for(sock, request, holds, seconds)
        spent = time.perf_counter() - began
        return borne(latencies, spent, (time.thread_time() - busy) / spent)


def _call_for(sock: socket.socket, request: bytes, holds: bytes, seconds: float) -> list[float]:
    latencies, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        answer = call(sock, request)
        latencies.append(time.perf_counter() - began)
        if holds not in answer:
            raise NotOk(answer.decode(errors="replace"))
    return latencies


def call(sock: socket.socket, request: bytes) -> bytes:
    """One call's whole answer; raises `NotOk`."""
    sock.sendall(request)
    answer = b""
    while not _is_whole(answer):
        data = sock.recv(READ_BYTES)
        if not data:
            raise NotOk("the server hung up")
        answer += data
    if not answer.startswith(_OK):
        raise NotOk(answer[:200].decode(errors="replace"))
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(HEAD_END)
    if not end:
        return False
    length = _LENGTH.search(head + b"\r\n")
    return len(body) >= int(length[1]) if length else body.endswith(LAST_CHUNK)
