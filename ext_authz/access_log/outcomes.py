"""What became of each call goes into the audit, and what nobody told of is reported.

An entry of a call that has ended becomes an outcome record. An entry of one that goes on becomes none,
since it says nothing final; it only gives the call its whole time again.

That an outcome did not come *here* proves nothing where Envoy sends its access log to another replica.
So this instance reports a decision only while it can tell: it has been sent an access log, and no
entry in it belonged to a decision of somebody else. Otherwise it logs how many it could not judge;
`audit stats` joins the files of all replicas and has the last word.
"""

import asyncio
from typing import Final, Protocol

from ext_authz.access_log.bypass_alarm import BypassAlarm
from ext_authz.access_log.entry import Entry, Stage
from ext_authz.access_log.pending import Pending
from ext_authz.audit.canonical import Event
from ext_authz.audit.log import AuditUnavailable
from ext_authz.audit.ocsf import outcome_event, outcome_missing_event
from ext_authz.clock import Clock
from ext_authz.log import Logger, logger, place_of

OUTCOME_SECONDS: Final = 3600
MAX_SWEEP_SECONDS: Final = 60
MAX_APPENDS: Final = 64  # of the audit's queue; all the rest of it is for Checks
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0
_PATIENCE_SECONDS: Final = (
    3600.0  # tried again while it is on its way, an outcome would stand there twice
)
_log: Final[Logger] = logger("access_log")


class Audit(Protocol):
    """What takes the events: `audit.log.AuditLog`."""

    async def room(self) -> None:
        """Returns when what can wait would not take a Check's place."""

    async def append(self, event: Event, *, seconds: float, is_kept: bool) -> None:
        """Returns once `event` is as durable as the settings ask; raises `AuditUnavailable`.

        What `is_kept` is not counted as lost then.
        """


class Outcomes:
    """Joins Envoy's entries to this process's decisions. `seconds` is how long an outcome may take."""

    def __init__(self, audit: Audit, clock: Clock, seconds: float = OUTCOME_SECONDS) -> None:
        self._audit = audit
        self._clock = clock
        self._seconds = seconds
        self._pending = Pending(seconds=seconds)
        self._reported = Pending(seconds=seconds)
        self._alarm = BypassAlarm(clock)
        self._appends = asyncio.Semaphore(MAX_APPENDS)
        self._is_told = False
        self._is_stalled = False
        self._others_until = clock.monotonic()
        self._let_go = 0

    def expect(self, decision_id: str) -> None:
        """An allow leaves: from now on its outcome is awaited."""
        self._pending.expect(decision_id, self._clock.monotonic())

    async def take(self, entry: Entry) -> None:
        """Returns once what `entry` says is recorded: while the audit cannot, its sender waits."""
        self._is_told = True
        if entry.outcome.is_bypass:
            self._alarm.note(entry)
        if entry.stage is Stage.RUNNING:
            self._renew(entry)
        else:
            self._close(entry)
            await self._append(outcome_event(entry.outcome))

    async def run(self) -> None:
        """Reports, again and again, what is overdue."""
        while True:
            await asyncio.sleep(min(self._seconds / 4, MAX_SWEEP_SECONDS))
            try:
                await self.report()
            except Exception as error:  # noqa: BLE001 - the next time it may go well
                _log.error("report_failed", exception=type(error).__name__, at=place_of(error))

    async def report(self) -> None:
        """Reports each decision whose outcome is overdue, or how many cannot be judged here."""
        self._alarm.tell()
        self._tell_of_let_go()
        now = self._clock.monotonic()
        self._forget_reported(now)
        if (why := self._cannot_tell(now)) is None:
            await self._report_missing(now)
        else:
            self._drop_overdue(now, why)

    def _renew(self, entry: Entry) -> None:
        if entry.outcome.decision_id is not None:
            self._pending.renew(entry.outcome.decision_id, self._clock.monotonic())

    def _close(self, entry: Entry) -> None:
        """Notes whose decision it was: after a restart the one before us counts as somebody else."""
        decision_id = entry.outcome.decision_id
        if decision_id is None or not entry.outcome.is_allowed:
            return
        if not (self._pending.close(decision_id) or self._reported.close(decision_id)):
            self._others_until = self._clock.monotonic() + self._seconds

    async def _append(self, event: Event) -> None:
        """Tries until it is recorded: an outcome can wait, and Envoy keeps the next ones meanwhile."""
        wait = _FIRST_WAIT
        while (fault := await self._fault_of(event)) is not None:
            if not self._is_stalled:
                self._is_stalled = True
                _log.error("outcomes_stalled", fault=fault)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        if self._is_stalled:
            self._is_stalled = False
            _log.info("outcomes_resumed")

    async def _fault_of(self, event: Event) -> str | None:
        async with self._appends:
            try:
                await self._audit.room()
                await self._audit.append(event, seconds=_PATIENCE_SECONDS, is_kept=True)
            except AuditUnavailable as error:
                return str(error)
        return None

    def _cannot_tell(self, now: float) -> str | None:
        """Why silence proves nothing; None where it does."""
        if not self._is_told:
            return "no_access_log"
        return "decisions_of_others" if now < self._others_until else None

    async def _report_missing(self, now: float) -> None:
        missing = 0
        while (decision_id := self._pending.overdue(now)) is not None:
            event = self._missing(decision_id)
            if (fault := await self._fault_of(event)) is not None:
                _log.error("outcome_missing_unrecorded", fault=fault)
                break  # it is overdue the next time too
            self._pending.close(decision_id)
            self._reported.expect(decision_id, now)
            missing += 1
        if missing:
            _log.warning("outcome_missing", decisions=missing, seconds=self._seconds)

    def _missing(self, decision_id: str) -> Event:
        return outcome_missing_event(decision_id, seconds=self._seconds, time=self._clock.wall())

    def _drop_overdue(self, now: float, why: str) -> None:
        if dropped := _closed(self._pending, now):
            _log.warning("outcomes_unknown", decisions=dropped, why=why)

    def _forget_reported(self, now: float) -> None:
        _closed(self._reported, now)

    def _tell_of_let_go(self) -> None:
        untold = self._pending.let_go - self._let_go
        if untold:
            _log.warning("outcomes_unknown", decisions=untold, why="too_many")
            self._let_go = self._pending.let_go


def _closed(pending: Pending, now: float) -> int:
    """How many were overdue; they are gone."""
    before = len(pending)
    while (decision_id := pending.overdue(now)) is not None:
        pending.close(decision_id)
    return before - len(pending)
