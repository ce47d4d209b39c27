"""An MCP server that takes no time: `python -m bench.peers.mcp_upstream PORT [SAID]` serves on loopback.

It speaks as much of Streamable HTTP (2025-11-25, without sessions) as a gateway needs that opens a
connection of its own, and asks nobody for a token: what is measured is who stands before it.
"""

import asyncio
import sys
from functools import partial
from typing import Any, Final

import orjson
import uvloop

from bench.upstream import Upstream
from ext_authz.demo.loopback import HOST

TOOL: Final = "whoami"
SAID: Final = "said by the upstream"
_LISTED: Final = {"tools": [{"name": TOOL, "inputSchema": {"type": "object"}}]}


class McpUpstream(Upstream):
    """Answers by the message's method; the tool says `said`."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self._said = said

    def answer(self, body: bytes) -> bytes:
        message: dict[str, Any] = orjson.loads(body) if body else {}
        if "id" not in message:
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        whole = {"jsonrpc": "2.0", "id": message["id"], "result": _result(message, self._said)}
        said = orjson.dumps(whole)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
        return head + str(len(said)).encode() + b"\r\n\r\n" + said


def _result(message: dict[str, Any], said: str) -> dict[str, Any]:
    match message["method"]:
        case "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "bench", "version": "1"},
            }
        case "tools/list":
            return _LISTED
        case "tools/call":
            return {"content": [{"type": "text", "text": said}], "isError": False}
        case _:
            return {}


async def serve(port: int, said: str) -> None:
    """Serves until it is killed."""
    server = await asyncio.get_running_loop().create_server(partial(McpUpstream, said), HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), (*sys.argv[2:], SAID)[0]))
