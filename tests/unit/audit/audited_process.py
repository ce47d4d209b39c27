"""A process that keeps an audit log and follows it into a collector, until SIGTERM: a service's sinks alone.

python -m tests.unit.audit.audited_process FILE ENDPOINT
"""

import asyncio
import signal
import sys

from ext_authz.audit.log import AuditLog
from ext_authz.audit.otlp.start import sent_to_collector
from ext_authz.clock import Clock
from ext_authz.log import configure_logs
from ext_authz.settings.settings import OtlpSink as OtlpSettings
from ext_authz.settings.settings import Rotation
from tests.doubles.audit_settings import NEVER, quiet

AT_ONCE = 20


async def serve(file: str, endpoint: str) -> None:
    """Twenty records at once, again and again, into files that are put aside at 50 kB."""
    stop, clock = asyncio.Event(), Clock()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rotation = Rotation(megabytes=0.05, seconds=NEVER)
    settings = quiet(file, rotation=rotation, otlp=OtlpSettings(endpoint=endpoint, headers={}))
    async with sent_to_collector(settings, clock):
        log = AuditLog(settings, clock)
        while not stop.is_set():
            await asyncio.gather(*(_record(log, number) for number in range(AT_ONCE)))
            await asyncio.sleep(0.01)
        await log.close()


async def _record(log: AuditLog, number: int) -> None:
    event = {"name": f"call {number}", "unmapped": {"event": "decision"}}
    await log.append(event, seconds=5)


if __name__ == "__main__":
    configure_logs()
    asyncio.run(serve(*sys.argv[1:3]))
