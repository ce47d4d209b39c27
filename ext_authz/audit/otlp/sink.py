"""The OTLP sink: every record of the audit file reaches the collector at least once, and in order.

It reads the file, not a queue, and so loses nothing to an outage of the collector or a restart of the
service, however long; and it never holds a Check up.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from ext_authz.audit.chain import Head
from ext_authz.audit.otlp.collector import Answer, Collector, Fate
from ext_authz.audit.otlp.follower import Follower, Record
from ext_authz.audit.otlp.log_record import export_request
from ext_authz.audit.otlp.outage import Outage
from ext_authz.audit.worker import Worker
from ext_authz.clock import Clock
from ext_authz.log import Logger, logger, place_of
from ext_authz.outbound import Outbound
from ext_authz.settings.settings import AuditSettings
from ext_authz.settings.settings import OtlpSink as OtlpSettings

IDLE_SECONDS: Final = 0.25
SOON_SECONDS: Final = 1.0  # doubled with each try in vain
LATER_SECONDS: Final = 15.0
MOST_SECONDS: Final = 30.0
FINISH_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 1.0
_NO_RECORDS: Final = b""  # an `ExportLogsServiceRequest` without any
_log: Final[Logger] = logger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """A record that the collector will never have."""

    head: Head
    fault: str | None


class OtlpSink:
    """Follows the audit file of `settings` into the collector at `otlp`, from now on until it is closed."""

    def __init__(
        self,
        settings: AuditSettings,
        otlp: OtlpSettings,
        outbound: Outbound,
        clock: Clock,
        *,
        soon_seconds: float = SOON_SECONDS,
        later_seconds: float = LATER_SECONDS,
    ) -> None:
        second = settings.checkpoints.file
        besides = [Path(second)] if second else []
        self._follower = Follower(Path(settings.file), besides=besides)
        self._collector = Collector(otlp, outbound)
        self._clock = clock
        self._first_pauses = {Fate.TRY_SOON: soon_seconds, Fate.TRY_LATER: later_seconds}
        self._worker = Worker("audit-otlp")
        self._unavailable = Outage("audit_otlp_unavailable", "audit_otlp_recovered")
        self._failing = Outage("audit_otlp_failed", "audit_otlp_resumed")
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def finish(self, *, seconds: float = FINISH_SECONDS) -> None:
        """Sends what is left, as far as it goes in the time given, and ends.

        What is not sent is sent by the next process that follows this file.
        """
        self._ending.set()
        _, unfinished = await asyncio.wait([self._task], timeout=seconds)
        if unfinished:
            _log.warning("audit_otlp_unfinished")

    async def close(self) -> None:
        """Ends at once, and closes the file if the disk does not hang."""
        self._task.cancel()
        await asyncio.wait([self._task])
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._worker.run(self._follower.close)
        self._worker.stop()

    async def _run(self) -> None:
        while True:
            is_ending = self._ending.is_set()
            try:
                is_idle = not await self._step()
            except Exception as error:  # noqa: BLE001 - the records are safe in their file: tell, and go on
                self._failing.note(type(error).__name__, at=place_of(error))
                await asyncio.sleep(self._first_pauses[Fate.TRY_LATER])
                continue
            if is_idle and is_ending:
                return
            if is_idle:
                await self._idle()

    async def _idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._ending.wait()

    async def _step(self) -> bool:
        """Sends a batch; says whether there was one."""
        batch = await self._worker.run(self._follower.batch)
        if batch:
            _tell_of(await self._send(batch))
            await self._worker.run(self._follower.acknowledge)
        self._failing.end()
        return bool(batch)

    async def _send(self, records: Sequence[Record]) -> list[_Refusal]:
        """Returns once `records` are received, save those given, which the collector will never have.

        Which these are is found by halves.
        """
        answer = await self._answer(records)
        if answer.fate is Fate.TAKEN:
            return []
        if len(records) == 1:
            return [_Refusal(head=records[0].head, fault=answer.fault)]
        middle = len(records) // 2
        return [*await self._send(records[:middle]), *await self._send(records[middle:])]

    async def _answer(self, records: Sequence[Record]) -> Answer:
        """Tries until the collector took `records`, or refused them for good."""
        tries = 0
        while True:
            answer = await self._try(records)
            if answer.rejected:
                _log.error("audit_otlp_rejected", records=answer.rejected, of=len(records))
            if answer.fate in {Fate.TAKEN, Fate.REFUSED}:
                self._unavailable.end()
                return answer
            self._unavailable.note(answer.fault)
            await asyncio.sleep(self._pause(answer, tries))
            tries += 1

    async def _try(self, records: Sequence[Record]) -> Answer:
        """One answer.

        Who refuses a request without records too, which OTLP wants taken, has nothing against these:
        it is no collector, or a setting is wrong.
        """
        answer = await self._collector.offer(await self._encoded(records))
        if answer.fate is not Fate.REFUSED:
            return answer
        other = await self._collector.offer(_NO_RECORDS)
        if other.fate is Fate.TAKEN:
            return answer
        return Answer(fate=Fate.TRY_LATER, fault=other.fault, retry_after=other.retry_after)

    async def _encoded(self, records: Sequence[Record]) -> bytes:
        observed = self._clock.wall()
        return await self._worker.run(lambda: export_request(records, observed=observed))

    def _pause(self, answer: Answer, tries: int) -> float:
        """Seconds: what the collector asks for at least; else doubling, and spread, so that replicas part."""
        pause = min(MOST_SECONDS, self._first_pauses[answer.fate] * 2.0 ** min(tries, 10))
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        return max(float(answer.retry_after or 0), pause * spread)


def _tell_of(refusals: Sequence[_Refusal]) -> None:
    """An alarm for each run of records, by their numbers. They stand in the file."""
    numbered = enumerate(refusals)
    for key, run in groupby(
        numbered,
        lambda each: (each[1].head.chain_uid, each[1].fault, each[1].head.sequence - each[0]),
    ):
        sequences = [refusal.head.sequence for _, refusal in run]
        _log.error(
            "audit_otlp_refused", chain=key[0], fault=key[1], first=sequences[0], last=sequences[-1]
        )
