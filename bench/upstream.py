"""The MCP server behind the Envoys that are measured: it gives every request the same small answer.

`python -m bench.upstream PORT` serves on loopback. It reads a request by its Content-Length, and no further.
"""

import asyncio
import re
import sys
from typing import Final, cast

import uvloop

from ext_authz.demo.loopback import HOST

_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_BODY: Final = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"ok"}]}}'
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"content-length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)


class Upstream(asyncio.Protocol):
    """One connection, kept open."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by descent

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (body := self._take_request()) is not None:
            self._transport.write(self.answer(body))

    def answer(self, _body: bytes) -> bytes:
        """What a request with this body is answered."""
        return _ANSWER

    def _take_request(self) -> bytes | None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        size = int(length[1]) if length else 0
        if not end or len(rest) < size:
            return None
        self._received = rest[size:]
        return rest[:size]


async def serve(port: int) -> None:
    """Serves until it is killed."""
    server = await asyncio.get_running_loop().create_server(Upstream, HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
