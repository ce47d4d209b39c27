"""A rogue in the service's place: answers every Check with what it is told to."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from ext_authz._protos.external_auth_pb2 import CheckRequest

SERVICE: Final = "envoy.service.auth.v3.Authorization"


@contextlib.asynccontextmanager
async def rogue_service(socket: Path, response: bytes) -> AsyncIterator[list[CheckRequest]]:
    """Serves `response` on the Unix socket until the block ends; gives what it is asked."""
    asked: list[CheckRequest] = []

    async def check(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        asked.append(CheckRequest.FromString(request))
        return response

    server = grpc.aio.server()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    handler = grpc.method_handlers_generic_handler(SERVICE, {"Check": method})
    server.add_generic_rpc_handlers((handler,))
    add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield asked
    finally:
        await server.stop(grace=None)
