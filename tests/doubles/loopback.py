"""A server on a loopback port, spoken to over a real socket, whose answers a dial can spoil."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl

from tests.doubles.tokens import changed

# In every error answer, and never anywhere else: a provider's words stay where they are.
PROVIDERS_WORDS: Final = "words-of-the-provider <b>Größe</b>"
_REASONS: Final = {200: "OK"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The form that was posted; each field exactly once."""
        pairs = parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        form = dict(pairs)
        assert len(form) == len(pairs), "a form field was sent twice"
        return form


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """How an endpoint answers. Untouched it answers well; each setting spoils one thing.

    `error` is an OAuth error code, `members` replaces members of the JSON answer, `body` the whole
    of it. The answer waits for `gate` or for `delay` seconds, comes a byte each `dribble` seconds,
    or is cut off half-way.
    """

    status: int | None = None
    error: str | None = None
    members: Mapping[str, object] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    delay: float = 0.0
    dribble: float = 0.0
    cut: bool = False


class Refusal(Exception):
    """Raised by an endpoint that says no by itself; its text is the OAuth error code."""


class Endpoint:
    """One path: what it says by itself, the dial that changes it, and the calls it had.

    `next` holds dials for the calls to come, one each; after those `dial` counts again.
    """

    def __init__(self, content: Callable[[Received], Mapping[str, object]]) -> None:
        self._content = content
        self.dial = Dial()
        self.next: list[Dial] = []
        self.calls: list[Received] = []
        self.called = asyncio.Event()

    def take(self, request: Received) -> Dial:
        self.calls.append(request)
        self.called.set()
        return self.next.pop(0) if self.next else self.dial

    def answer(self, request: Received, dial: Dial) -> tuple[int, bytes]:
        """Status and body."""
        if dial.body is not None:
            return dial.status or 200, dial.body
        if dial.error is not None:
            return dial.status or 400, _error(dial.error, dial.members)
        try:
            content = self._content(request)
        except Refusal as refusal:
            return 400, _error(str(refusal), {})
        return dial.status or 200, json.dumps(changed(content, dial.members)).encode()


class Loopback:
    """Serves `endpoints` by path while the block runs, and 404 elsewhere."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], context: ssl.SSLContext | None = None
    ) -> None:
        self._endpoints = endpoints
        self._context = context
        self._connections: set[asyncio.Task[None]] = set()
        self.origin = ""
        self.paths: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, ssl=self._context
        )
        port = self._server.sockets[0].getsockname()[1]
        self.origin = f"{'https' if self._context else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._exchange(await _read(reader), writer):
                pass

    async def _exchange(self, request: Received, writer: asyncio.StreamWriter) -> bool:
        """Answers; tells whether the connection may serve another request."""
        self.paths.append(request.path)
        endpoint = self._endpoints.get(request.path)
        if endpoint is None:
            return await _write(writer, 404, b"{}", Dial())
        dial = endpoint.take(request)
        if dial.gate is not None:
            await dial.gate.wait()
        await asyncio.sleep(dial.delay)
        status, body = endpoint.answer(request, dial)
        return await _write(writer, status, body, dial)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, path, _version = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method=method, path=path, headers=headers, body=body)


async def _write(writer: asyncio.StreamWriter, status: int, body: bytes, dial: Dial) -> bool:
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "set-cookie": "provider=1",  # nobody may send it back
        **dial.headers,
    }
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'No')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    answer = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
    if dial.cut:
        writer.write(answer[: -max(1, len(body) // 2)])
    elif dial.dribble:
        for byte in answer:
            writer.write(bytes([byte]))
            await asyncio.sleep(dial.dribble)
    else:
        writer.write(answer)
    await writer.drain()
    return not dial.cut


def _error(code: str, members: Mapping[str, object]) -> bytes:
    return json.dumps(
        changed({"error": code, "error_description": PROVIDERS_WORDS}, members)
    ).encode()
