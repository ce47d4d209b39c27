"""Keeps the audit's promise for one decision: it is durable before it is answered, or another answer is given.

What is answered is what is recorded: where the record of an allow was on its way, and did not arrive in
time, the log is amended to the denial that took its place.
"""

import asyncio
from typing import Final

from ext_authz.audit.log import AuditLog, AuditUnavailable, Entry
from ext_authz.audit.ocsf import correction_event, decision_event
from ext_authz.audit.record import AuditRecord, Recorder
from ext_authz.cancellation import was_cancelled
from ext_authz.clock import Clock
from ext_authz.log import Logger, logger, place_of
from ext_authz.reasons import Reason
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Deny, Verdict

_log: Final[Logger] = logger("audit")


class DecisionLog:
    """Records decisions in `audit`, as `recorder` writes them."""

    def __init__(self, recorder: Recorder, audit: AuditLog, clock: Clock) -> None:
        self._recorder = recorder
        self._audit = audit
        self._clock = clock

    async def record(self, trail: Trail, verdict: Verdict, *, patience: float) -> Deny | None:
        """Returns once the record is durable; gives the denial to answer instead where it is not.

        Waits for `patience` seconds. Raises `CancelledError` where whoever asked has gone, and has the
        log say so.
        """
        try:
            entry = self._audit.enter(decision_event(self._written(trail, verdict)))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is allowed unrecorded
            return _denial(error, trail)
        try:
            await entry.durable(seconds=patience)
        except asyncio.CancelledError as error:
            is_abandoned = was_cancelled()
            denial = Deny(reason=Reason.ABANDONED) if is_abandoned else _denial(error, trail)
            self._amend(entry, trail, denial)
            if is_abandoned:
                raise
            return denial  # a part of ours was cancelled, and Envoy still waits
        except Exception as error:  # noqa: BLE001 - as above
            denial = _denial(error, trail)
            self._amend(entry, trail, denial)
            return denial
        return None

    def abandon(self, trail: Trail) -> None:
        """Records that nobody waits for the verdict any more; there is no time left to wait in."""
        try:
            self._audit.enter(decision_event(self._written(trail, Deny(reason=Reason.ABANDONED))))
        except Exception as error:  # noqa: BLE001 - as above
            _denial(error, trail)

    def _amend(self, entry: Entry, trail: Trail, denial: Deny) -> None:
        """Has the log say what was answered, where the record of something else is on its way."""
        try:
            record = self._written(trail, denial)
            instead, correction = decision_event(record), correction_event(record)
            self._audit.amend(entry, instead=instead, correction=correction)
        except Exception as error:  # noqa: BLE001 - as above
            _denial(error, trail)

    def _written(self, trail: Trail, verdict: Verdict) -> AuditRecord:
        taken = trail.milliseconds(self._clock)
        return self._recorder.record(trail, verdict, milliseconds=taken)


def _denial(error: BaseException, trail: Trail) -> Deny:
    """The answer to a record that failed. An exception's text may hold anything, and goes nowhere."""
    if isinstance(error, AuditUnavailable):
        _log.warning("unrecorded", fault=str(error), decision_id=trail.decision_id)
        return Deny(reason=error.reason)
    _log.error("unrecorded", exception=type(error).__name__, at=place_of(error))
    return Deny(reason=Reason.INTERNAL, detail=type(error).__name__)
