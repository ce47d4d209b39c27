"""The parts list: builds everything once, serves, and drains on SIGTERM."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from grpc_health.v1 import health_pb2

from ext_authz.access_log.outcomes import Outcomes
from ext_authz.access_log.streams import AccessLogStreams
from ext_authz.audit.decision_log import DecisionLog
from ext_authz.audit.log import AuditLog, AuditUnavailable
from ext_authz.audit.otlp.start import OtlpUnusable, sent_to_collector
from ext_authz.audit.record import recorder
from ext_authz.audit.stdout_sink import copied_to_stdout
from ext_authz.cannot_serve import CannotServe
from ext_authz.check import Check
from ext_authz.clock import Clock
from ext_authz.exchange.access_tokens import AccessTokens
from ext_authz.exchange.shared.cache import SharedCache
from ext_authz.exchange.shared.start import SharedCacheUnusable, shared_among_replicas
from ext_authz.grpc_server import SERVICE, bind, grpc_server
from ext_authz.identity.verify import Users
from ext_authz.issuers import Issuers
from ext_authz.log import log_uncaught, logger
from ext_authz.outbound import Outbound
from ext_authz.request.catalogue import Catalogue
from ext_authz.settings.settings import AuditSettings, Settings
from ext_authz.verdict.resource_metadata import ResourceMetadata

_log: Final = logger("server")


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[None]:
    """Serves while the block runs; then reports NOT_SERVING, finishes what is in flight, and stops.

    Raises `CannotServe`.
    """
    clock = clock or Clock()
    async with (
        Outbound(seconds=settings.timeouts.call) as outbound,
        _audit_log(settings.audit, clock) as audit,
        _shared_cache(settings, clock) as shared,
    ):
        outcomes = Outcomes(audit, clock, seconds=settings.audit.outcome_seconds)
        issuers = Issuers(settings, outbound, clock)
        check = build_check(settings, issuers, audit, outcomes, clock, shared)
        access_log = AccessLogStreams(outcomes)
        server, status = grpc_server(check, access_log)
        bind(server, settings.listen)
        await server.start()
        await status.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        background = [
            asyncio.create_task(work)
            for work in (issuers.warm(), audit.keep_checkpoints(), outcomes.run())
        ]
        _log.info("serving", listen=settings.listen, servers=sorted(settings.servers))
        try:
            yield
        finally:
            await status.enter_graceful_shutdown()
            for task in background:
                task.cancel()
            access_log.end()
            await server.stop(settings.timeouts.check)
    _log.info("stopped")


async def serve(settings: Settings, *, parent: int | None = None) -> None:
    """Serves until SIGTERM or SIGINT; or until `parent`, a pipe that its parent holds open, ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_uncaught)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _ignore_hangup)
    if parent is not None:
        loop.add_reader(parent, _lose_parent, loop, parent, stop)
    async with running(settings):
        leave_alone_what_stays()
        await stop.wait()


def leave_alone_what_stays() -> None:
    """Takes everything made so far out of the garbage collector's rounds: one through it all takes 30 ms."""
    gc.collect()
    gc.freeze()


def _ignore_hangup() -> None:
    """Alone, nobody would serve meanwhile; of several, the parent is the one to ask."""
    _log.warning("hangup_ignored", why="only the parent of several workers replaces them")


def _lose_parent(loop: asyncio.AbstractEventLoop, parent: int, stop: asyncio.Event) -> None:
    loop.remove_reader(parent)
    _log.error("parent_lost")
    stop.set()


def build_check(
    settings: Settings,
    issuers: Issuers,
    audit: AuditLog,
    outcomes: Outcomes,
    clock: Clock,
    shared: SharedCache | None = None,
) -> Check:
    """The one Check, from the settings' parts."""
    providers = settings.identity_providers
    timeouts = settings.timeouts
    return Check(
        catalogue=Catalogue(settings.servers, settings.authorization_servers),
        users=Users(providers, issuers.keys, clock),
        access_tokens=AccessTokens(
            issuers.id_jags, issuers.redeemers, clock, seconds=timeouts.exchange, shared=shared
        ),
        metadata=ResourceMetadata(providers.values()),
        decisions=DecisionLog(recorder(settings.audit), audit, clock),
        outcomes=outcomes,
        clock=clock,
        seconds=timeouts.check,
    )


@asynccontextmanager
async def _audit_log(settings: AuditSettings, clock: Clock) -> AsyncIterator[AuditLog]:
    """The log with its sinks, which get its last lines too."""
    async with AsyncExitStack() as parts:
        try:
            await parts.enter_async_context(sent_to_collector(settings, clock))
            sinks = await parts.enter_async_context(copied_to_stdout(settings))
            audit = AuditLog(settings, clock, sinks=sinks)
        except (AuditUnavailable, OtlpUnusable) as error:
            raise CannotServe(f"The audit log cannot be used: {error}.") from None
        parts.push_async_callback(audit.close)
        yield audit


@asynccontextmanager
async def _shared_cache(settings: Settings, clock: Clock) -> AsyncIterator[SharedCache | None]:
    async with AsyncExitStack() as stack:
        try:
            shared = await stack.enter_async_context(shared_among_replicas(settings, clock))
        except SharedCacheUnusable as error:
            raise CannotServe(f"{error}.") from None
        yield shared
