"""A witness in front of an MCP server: what each request carried, and if that was a user token.

It stands outside the server's own code, so it also sees what the server goes on to refuse. It
keeps claims and never a token.
"""

import base64
import json
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WITNESS_PATH: Final = "/witness"
MAX_NOTES: Final = 10_000
MAX_BODY_BYTES: Final = 4 * 1024 * 1024

_JWT: Final = re.compile(r"[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """What a bearer token says of itself, unverified."""

    iss: str = ""
    sub: str = ""
    aud: str = ""
    client_id: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One request as it came in, and the status it was answered with.

    `at` is in seconds since the epoch; `user_tokens_in` names the headers, or "url", in which a
    token of the identity provider stood.
    """

    at: float
    http_method: str
    path: str
    status: int
    mcp_method: str = ""
    tool: str = ""
    protocol_version: str = ""
    bearer: Bearer | None = None
    user_tokens_in: tuple[str, ...] = ()


class Witness:
    """The notes of one server, and what they come to."""

    def __init__(self, *, user_token_issuer: str) -> None:
        self._issuer = user_token_issuer
        self._notes: deque[Note] = deque(maxlen=MAX_NOTES)

    @property
    def notes(self) -> tuple[Note, ...]:
        """The last `MAX_NOTES` of them, oldest first."""
        return tuple(self._notes)

    @property
    def user_tokens_seen(self) -> int:
        return sum(len(note.user_tokens_in) for note in self.notes)

    def report(self) -> dict[str, Any]:
        """All of it, as JSON knows it."""
        requests = [asdict(note) for note in self.notes]
        return {"user_tokens_seen": self.user_tokens_seen, "requests": requests}

    def note(self, request: Request, body: bytes, status: int) -> None:
        mcp_method, tool = _mcp_call(body)
        self._notes.append(
            Note(
                at=time.time(),
                http_method=request.method,
                path=request.url.path,
                status=int(status),  # a plain number, where a server sends an HTTPStatus
                mcp_method=mcp_method,
                tool=tool,
                protocol_version=request.headers.get("mcp-protocol-version", ""),
                bearer=_bearer(request.headers.get("authorization", "")),
                user_tokens_in=tuple(self._user_tokens(request)),
            )
        )

    def _user_tokens(self, request: Request) -> Iterator[str]:
        """Where a token of the identity provider stands: the place, once for each token."""
        for place, text in (("url", str(request.url)), *request.headers.items()):
            for claims in _jwts(unquote(text)):
                if claims.get("iss") == self._issuer:
                    yield place


class Witnessed:
    """ASGI: an app whose every request its witness notes, and which shows the notes at `/witness`.

    Request bodies are read before the app gets them; answers pass through untouched, piece by
    piece, so streams stay streams.
    """

    def __init__(self, app: ASGIApp, witness: Witness) -> None:
        self._app = app
        self._witness = witness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == WITNESS_PATH:
            await JSONResponse(self._witness.report())(scope, receive, send)
        else:
            await self._watch(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if len(body) > MAX_BODY_BYTES:
            await Response(status_code=413)(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._witness.note(Request(scope), body, message["status"])
            await send(message)

        await self._app(scope, _Replay(body, receive), noting)


class _Replay:
    """A `receive` that gives a body already read, and then whatever else comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read(receive: Receive) -> bytes:
    """The whole request body, or a little more than the limit of it."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _mcp_call(body: bytes) -> tuple[str, str]:
    """Method and, for a tool call, tool of a JSON-RPC message; empty strings where it is none."""
    try:
        message: Any = json.loads(body)
        method = str(message["method"])
    except (ValueError, KeyError, TypeError):
        return "", ""
    params = message.get("params")
    named = method == "tools/call" and isinstance(params, dict)
    return method, str(params.get("name", "")) if named else ""


def _bearer(authorization: str) -> Bearer | None:
    for claims in _jwts(authorization):
        return Bearer(**{name: _text(claims.get(name)) for name in Bearer.__dataclass_fields__})
    return None


def _text(claim: object) -> str:
    return " ".join(map(str, claim)) if isinstance(claim, list) else str(claim or "")


def _jwts(text: str) -> Iterator[Mapping[str, Any]]:
    """The claims of everything in `text` that reads as a JWT."""
    for found in _JWT.finditer(text):
        payload = found.group().split(".")[1]
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except ValueError:
            continue
        if isinstance(claims, dict):
            yield claims
