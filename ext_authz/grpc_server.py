"""Checks, Envoy's access log and health over gRPC, on a loopback address or socket."""

import contextlib
import socket
import stat
from pathlib import Path
from typing import Final, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2_grpc

from ext_authz._protos.external_auth_pb2 import DESCRIPTOR, CheckRequest, CheckResponse
from ext_authz.access_log.streams import MAX_STREAMS, AccessLogStreams
from ext_authz.cannot_serve import CannotServe
from ext_authz.check import Check
from ext_authz.log import logger, place_of

MAX_CONCURRENT_CHECKS: Final = 4096
MAX_HEALTH_CALLS: Final = 64  # a service that is full is alive all the same
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
SERVICE: Final = DESCRIPTOR.services_by_name["Authorization"].full_name
_SOCKET_MODE: Final = 0o660  # Envoy's user joins the socket's group
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on our port is a mistake, not a share
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keepalive would have us hang up on it
)
_log: Final = logger("grpc")


class Authorization:
    """`envoy.service.auth.v3.Authorization`: `most` Checks at once, whatever else is called meanwhile."""

    def __init__(self, check: Check, *, most: int) -> None:
        self._check = check
        self._most = most
        self._running = 0

    async def Check(
        self, request: CheckRequest, context: grpc.aio.ServicerContext[CheckRequest, CheckResponse]
    ) -> CheckResponse:
        """Answers one CheckRequest. Should even the denial fail, Envoy gets an error without text."""
        if self._running >= self._most:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        self._running += 1
        try:
            return await self._check(request)
        except Exception as error:  # noqa: BLE001 - grpc would send its text to the peer
            _log.error("check_lost", exception=type(error).__name__, at=place_of(error))
            await context.abort(grpc.StatusCode.INTERNAL, "")
        finally:
            self._running -= 1


def grpc_server(
    check: Check, access_log: AccessLogStreams
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server that answers with `check` and feeds `access_log`, and its health."""
    most = MAX_CONCURRENT_CHECKS + MAX_STREAMS + MAX_HEALTH_CALLS
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=most)
    handler = grpc.unary_unary_rpc_method_handler(
        Authorization(check, most=MAX_CONCURRENT_CHECKS).Check,
        _read,
        CheckResponse.SerializeToString,
    )
    checks = grpc.method_handlers_generic_handler(SERVICE, {"Check": handler})
    server.add_generic_rpc_handlers((checks, access_log.handler()))
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    return server, status


def _read(message: bytes) -> CheckRequest:
    """What cannot be read is an empty request: denied and recorded as any malformed one.

    Left to itself, grpc would send protobuf's words about it to the peer.
    """
    try:
        return CheckRequest.FromString(message)
    except DecodeError:
        return CheckRequest()


def bind(server: grpc.aio.Server, listen: str) -> None:
    """Has `server` listen on `unix:/path` or `address:port`; raises `CannotServe`."""
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:"))
        _refuse_live_socket(path)
        _add_port(server, listen)
        path.chmod(_SOCKET_MODE)
    else:
        _refuse_taken_port(listen)
        _add_port(server, listen)


def _add_port(server: grpc.aio.Server, listen: str) -> None:
    try:
        server.add_insecure_port(listen)
    except RuntimeError:
        _cannot_listen(listen)


def _refuse_taken_port(listen: str) -> None:
    """Grpc would tell the operator in words of its own, before we can in ours."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError:
        _cannot_listen(listen)


def _refuse_live_socket(path: Path) -> None:
    """Grpc would unlink the socket of a running service without a word."""
    if not path.parent.is_dir():
        raise CannotServe(
            f"Cannot listen on unix:{path}: the directory {path.parent} does not exist."
        )
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise CannotServe(f"Cannot listen on unix:{path}: a file that is no socket stands there.")
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        raise CannotServe(f"Cannot listen on unix:{path}: another process serves there.")


def _cannot_listen(listen: str) -> NoReturn:
    raise CannotServe(f"Cannot listen on {listen}: it is in use, or this user may not.") from None
