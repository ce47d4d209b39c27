"""A client that sends the bytes it is given, and so can say what no HTTP library would."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

SECONDS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; header names are in lower case, repeated ones joined."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Our reason code; empty where the answer is not a denial of ours."""
        return self.headers.get("x-mcp-ext-authz-reason", "")


def send(url: str, request: bytes) -> Answer:
    """The answer to `request`, sent as it is on a connection of its own."""
    with connection(url) as sock:
        sock.sendall(request)
        return answer(sock, request.split(b" ", 1)[0].decode())


def connection(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=SECONDS)


def answer(sock: socket.socket, method: str = "POST") -> Answer:
    """The next final answer on `sock`."""
    with http.client.HTTPResponse(sock, method=method) as response:
        response.begin()
        names = {name.lower() for name in response.headers}
        headers = {name: ", ".join(response.headers.get_all(name, ())) for name in names}
        return Answer(status=response.status, headers=headers, body=response.read())
