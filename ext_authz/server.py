"""The parts list: builds everything once, answers Envoy over gRPC, drains on SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ext_authz._protos.external_auth_pb2 import DESCRIPTOR, CheckRequest, CheckResponse
from ext_authz.audit.log import AuditLog, AuditUnavailable
from ext_authz.check import Check
from ext_authz.clock import Clock
from ext_authz.exchange.access_tokens import AccessTokens
from ext_authz.exchange.endpoint_location import Locate, configured, discovered
from ext_authz.exchange.id_jag import IdJagIssuer
from ext_authz.exchange.jwt_bearer import Redeemer
from ext_authz.exchange.token_endpoint import TokenEndpoint
from ext_authz.identity.issuer_keys import IssuerKeys, KeysUnavailable
from ext_authz.identity.issuer_metadata import (
    IssuerMetadata,
    authorization_server_locations,
    openid_locations,
)
from ext_authz.identity.verify import Users
from ext_authz.log import logger, place_of
from ext_authz.outbound import Outbound
from ext_authz.request.catalogue import Catalogue
from ext_authz.settings.settings import (
    AuthorizationServer,
    IdentityProvider,
    OAuthClient,
    Settings,
)
from ext_authz.verdict.resource_metadata import ResourceMetadata

MAX_CONCURRENT_CHECKS: Final = 4096
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
_SERVICE: Final = DESCRIPTOR.services_by_name["Authorization"].full_name
_SOCKET_MODE: Final = 0o660  # Envoy's user joins the socket's group
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on our port is a mistake, not a share
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keepalive would have us hang up on it
)
_log: Final = logger("server")


class CannotServe(Exception):
    """The service cannot start; the message is one sentence for the operator."""


class Authorization:
    """`envoy.service.auth.v3.Authorization`."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def Check(
        self, request: CheckRequest, context: grpc.aio.ServicerContext[CheckRequest, CheckResponse]
    ) -> CheckResponse:
        """Answers one CheckRequest. Should even the denial fail, Envoy gets an error without text."""
        try:
            return await self._check(request)
        except Exception as error:  # noqa: BLE001 - grpc would send its text to the peer
            _log.error("check_lost", exception=type(error).__name__, at=place_of(error))
            await context.abort(grpc.StatusCode.INTERNAL, "")


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[None]:
    """Serves while the block runs; then reports NOT_SERVING, finishes what is in flight, and stops.

    Raises `CannotServe`.
    """
    clock = clock or Clock()
    async with Outbound(seconds=settings.timeouts.call) as outbound:
        audit = _audit_log(settings)
        issuers = _Issuers(settings, outbound, clock)
        check = _check(settings, issuers, audit, clock)
        server, status = _grpc_server(check)
        _bind(server, settings.listen)
        await server.start()
        await status.set(_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        warming = asyncio.create_task(_warm(issuers.keys))
        _log.info("serving", listen=settings.listen, servers=sorted(settings.servers))
        try:
            yield
        finally:
            await status.enter_graceful_shutdown()
            warming.cancel()
            await server.stop(settings.timeouts.check)
            audit.close()
            _log.info("stopped")


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_uncaught)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings):
        await stop.wait()


def _log_uncaught(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """An exception that nobody awaits; asyncio would print its text, which may hold anything."""
    error = context.get("exception")
    at = place_of(error) if error is not None else []
    _log.error("uncaught", exception=type(error).__name__, at=at)


class _Issuers:
    """One set of metadata, keys and token endpoint for each issuer that the settings name."""

    def __init__(self, settings: Settings, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self.keys: dict[str, IssuerKeys] = {}
        self.id_jags: dict[str, IdJagIssuer] = {}
        self.redeemers: dict[str, Redeemer] = {}
        for provider in settings.identity_providers.values():
            self._add_provider(provider)
        for server in settings.authorization_servers.values():
            self._add_authorization_server(server)

    def _add_provider(self, provider: IdentityProvider) -> None:
        issuer = provider.issuer
        metadata = self._metadata(issuer, openid_locations(issuer))
        self.keys[issuer] = IssuerKeys(metadata, provider.jwks_uri, self._outbound, self._clock)
        named = provider.token_endpoint
        locate = configured(named) if named else discovered(metadata, on_origin=False)
        self.id_jags[issuer] = IdJagIssuer(
            self._endpoint(issuer, provider.client, locate), self._clock
        )

    def _add_authorization_server(self, server: AuthorizationServer) -> None:
        metadata = self._metadata(server.issuer, authorization_server_locations(server.issuer))
        named = server.token_endpoint
        locate = configured(named) if named else discovered(metadata, on_origin=True)
        endpoint = self._endpoint(server.issuer, server.client, locate)
        self.redeemers[server.issuer] = Redeemer(endpoint)

    def _metadata(self, issuer: str, locations: Sequence[str]) -> IssuerMetadata:
        return IssuerMetadata(issuer, locations, self._outbound, self._clock)

    def _endpoint(self, issuer: str, client: OAuthClient, locate: Locate) -> TokenEndpoint:
        return TokenEndpoint(issuer, client, locate, self._outbound, self._clock)


def _check(settings: Settings, issuers: _Issuers, audit: AuditLog, clock: Clock) -> Check:
    providers = settings.identity_providers
    timeouts = settings.timeouts
    return Check(
        catalogue=Catalogue(settings.servers, settings.authorization_servers),
        users=Users(providers, issuers.keys, clock),
        access_tokens=AccessTokens(
            issuers.id_jags, issuers.redeemers, clock, seconds=timeouts.exchange
        ),
        metadata=ResourceMetadata(providers.values()),
        audit=audit,
        clock=clock,
        seconds=timeouts.check,
    )


def _audit_log(settings: Settings) -> AuditLog:
    try:
        return AuditLog(settings.audit_file)
    except AuditUnavailable as error:
        _cannot(f"The audit log cannot be used: {error}.")


def _grpc_server(check: Check) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_CHECKS)
    handler = grpc.unary_unary_rpc_method_handler(
        Authorization(check).Check, _read, CheckResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"Check": handler}),)
    )
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


def _bind(server: grpc.aio.Server, listen: str) -> None:
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
        _cannot(f"Cannot listen on unix:{path}: the directory {path.parent} does not exist.")
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        _cannot(f"Cannot listen on unix:{path}: a file that is no socket stands there.")
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        _cannot(f"Cannot listen on unix:{path}: another process serves there.")


async def _warm(keys: Mapping[str, IssuerKeys]) -> None:
    """Fetches every issuer's keys, so that the first user does not wait, and says who is down."""
    for issuer, issuer_keys in keys.items():
        try:
            await issuer_keys.find(None)
        except KeysUnavailable as error:
            _log.warning("identity_provider_unreachable", issuer=issuer, fault=str(error))


def _cannot_listen(listen: str) -> NoReturn:
    _cannot(f"Cannot listen on {listen}: it is in use, or this user may not.")


def _cannot(sentence: str) -> NoReturn:
    raise CannotServe(sentence) from None
