"""The floor: a bare grpc.aio server on uvloop that gives every Check the same answer.

`python -m bench.floor SOCKET ANSWER` serves the bytes of the file ANSWER. Nothing in Python can be
faster, so what is above it is ours.
"""

import asyncio
import sys
from pathlib import Path

import grpc
import uvloop


async def serve(socket: str, answer: bytes) -> None:
    """Serves until it is killed."""

    async def check(_request: bytes, _context: object) -> bytes:
        return answer

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    service = "envoy.service.auth.v3.Authorization"
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Check": handler}),)
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], Path(sys.argv[2]).read_bytes()))
