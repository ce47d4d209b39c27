"""Counting what an endpoint granted and what it refused, from its answers alone."""

import json
import threading
from collections import Counter
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COUNTS_PATH: Final = "/counts"


class Tally:
    """How often something was granted, and how often refused, by OAuth error code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._granted = 0
        self._refused: Counter[str] = Counter()

    def grant(self) -> None:
        with self._lock:
            self._granted += 1

    def refuse(self, error: str) -> None:
        with self._lock:
            self._refused[error] += 1

    @property
    def granted(self) -> int:
        return self._granted

    @property
    def refused(self) -> dict[str, int]:
        """Refusals by error code."""
        with self._lock:
            return dict(self._refused)


class CountedTokenEndpoint:
    """ASGI: an authorization server whose token answers are tallied, and shown at `/counts`.

    It looks at answers and not at the server's code, so it counts alike for every make of server.
    """

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self._app = app
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"], scope.get("method"), scope.get("path"):
            case "http", "POST", "/token":
                await self._app(scope, receive, _Counting(send, self._tally))
            case "http", "GET", path if path == COUNTS_PATH:
                await self._counts()(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    def _counts(self) -> JSONResponse:
        return JSONResponse({"leg2": self._tally.granted, "refusals": self._tally.refused})


class _Counting:
    """A `send` that passes every message on and reads status and error code as they go by."""

    def __init__(self, send: Send, tally: Tally) -> None:
        self._send = send
        self._tally = tally
        self._status = 0
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._count()
        await self._send(message)

    def _count(self) -> None:
        if self._status == HTTPStatus.OK:
            self._tally.grant()
        else:
            self._tally.refuse(_error_code(self._body, self._status))


def _error_code(body: bytes, status: int) -> str:
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = None
    return str(answer["error"]) if isinstance(answer, dict) and "error" in answer else str(status)
