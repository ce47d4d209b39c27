"""Runs the OTLP sink where the settings ask for one, and says so where it cannot work.

What it needs beyond a plain installation is imported only here, and only then.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_authz.clock import Clock
from ext_authz.outbound import Outbound
from ext_authz.settings.settings import AuditSettings
from ext_authz.settings.settings import OtlpSink as OtlpSettings

if TYPE_CHECKING:
    from ext_authz.audit.otlp.sink import OtlpSink

CALL_SECONDS: Final = 10.0  # as OpenTelemetry's own exporters


class OtlpUnusable(Exception):
    """The sink cannot work here; the message says why and what mends it."""


@asynccontextmanager
async def sent_to_collector(settings: AuditSettings, clock: Clock) -> AsyncIterator[None]:
    """Sends the audit file to the collector of `settings`, if they name one, while the block runs.

    What is left then is sent behind it, for a short time, unless the block ended by an exception:
    whoever could not open the log has no business with it. Enter it before the log is opened, and leave
    it behind the log's end, which is sent as well. Raises `OtlpUnusable`.
    """
    if settings.otlp is None:
        yield
        return
    async with Outbound(seconds=CALL_SECONDS) as outbound:
        sink = _sink(settings, settings.otlp, outbound, clock)
        try:
            yield
            await sink.finish()
        finally:
            await sink.close()


def _sink(
    settings: AuditSettings, otlp: OtlpSettings, outbound: Outbound, clock: Clock
) -> "OtlpSink":
    path = Path(settings.file)
    if path.exists() and not path.is_file():
        raise OtlpUnusable(f"`audit.otlp` needs a file to follow, and {path} is none")
    try:
        from ext_authz.audit.otlp.sink import OtlpSink  # noqa: PLC0415 - an optional part
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise OtlpUnusable(
            "`audit.otlp` needs a package that is missing: pip install 'mcp-ext-authz[otlp]'"
        ) from None
    return OtlpSink(settings, otlp, outbound, clock)
