"""Whether somebody serves at an address: `grpc.health.v1`."""

from typing import Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

_SECONDS: Final = 1.0
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)  # a failed try is no reason to wait


async def serves(listen: str) -> bool:
    """Whether who listens at `unix:/path` or `address:port` answers SERVING, within a second."""
    async with grpc.aio.insecure_channel(listen, _OPTIONS) as channel:
        check = HealthStub(channel).Check  # type: ignore[attr-defined]  # set at run time
        try:
            answer = await check(HealthCheckRequest(), timeout=_SECONDS)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)
