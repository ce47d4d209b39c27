"""One MCP call on the wire: `tools/call` of `whoami`, as a stateless client sends it (2026-07-28)."""

import json
import ssl
from collections.abc import Mapping
from typing import Final

import httpx2

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to load certificates takes 30 ms
META: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HEADERS: Final = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "whoami",
}


def whoami(**arguments: object) -> str:
    """The message."""
    params = {"name": "whoami", "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


def bearer(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


async def call(url: str, token: str = "", **headers: str) -> httpx2.Response:
    """The answer to the call; keywords are further headers, with `_` for `-`."""
    further = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http_client() as http:
        return await http.post(
            url, content=whoami(), headers={**HEADERS, **bearer(token), **further}
        )


def http_client() -> httpx2.AsyncClient:
    """A client with room for two hundred calls at a time."""
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
    return httpx2.AsyncClient(verify=NO_TLS, trust_env=False, timeout=30, limits=limits)


def post(path: str, token: str, *lines: str, body: str = whoami(), host: str = "front") -> bytes:
    """The same call spelt out for HTTP/1.1, with further header lines."""
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        *(f"{name}: {value}" for name, value in HEADERS.items()),
        f"Content-Length: {len(body.encode())}",
        *(f"{name}: {value}" for name, value in bearer(token).items()),
        *lines,
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def subject(response: httpx2.Response) -> str:
    """Whom the MCP server took the caller for."""
    return str(response.json()["result"]["structuredContent"]["subject"])


def reason(response: httpx2.Response) -> str:
    """Our reason code; empty where the answer is not a denial of ours."""
    return str(response.headers.get("x-mcp-ext-authz-reason", ""))
