"""Outcomes are recorded; what stays without one is reported, by an instance that can tell."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ext_authz.access_log.bypass_alarm import QUIET_SECONDS
from ext_authz.access_log.entry import read_entries
from ext_authz.access_log.outcomes import MAX_APPENDS, Outcomes
from ext_authz.access_log.pending import Pending
from ext_authz.audit.log import AuditLog, AuditUnavailable
from ext_authz.audit.ocsf import outcome_missing_event
from ext_authz.clock import Clock
from tests.doubles.audit_settings import quiet
from tests.doubles.movable_time import MovableTime
from tests.unit.access_log.entries import KeptAudit, Plain, entry, message, refused
from tests.unit.audit.chains import data_of, kinds_in

SECONDS = 3600

Logs = list[Any]


def decision(number: int) -> str:
    return f"{number:032x}"


class Desk:
    """Outcomes with their audit and their time."""

    def __init__(self) -> None:
        self.time = MovableTime()
        self.audit = KeptAudit()
        self.outcomes = Outcomes(self.audit, self.time.clock, SECONDS)

    async def hear(self, *plains: Plain) -> None:
        for each in read_entries(message(*plains)):
            await self.outcomes.take(each)

    async def hear_an_outcome_of_ours(self) -> None:
        """After it, this instance knows that Envoy's access log comes here."""
        self.outcomes.expect(decision(999))
        await self.hear(entry(decision(999)))
        self.audit.events.clear()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as logs:
        yield logs


def said(logs: Logs, event: str) -> Logs:
    return [line for line in logs if line["event"] == event]


async def test_a_call_that_ended_becomes_one_record_of_its_decision(desk: Desk) -> None:
    desk.outcomes.expect(decision(1))
    await desk.hear(entry(decision(1)))
    desk.time.passes(2 * SECONDS)
    await desk.outcomes.report()

    assert desk.audit.kinds() == ["outcome"]
    assert desk.audit.decisions() == [decision(1)]


async def test_an_allow_without_an_outcome_is_reported_once(desk: Desk, logs: Logs) -> None:
    await desk.hear_an_outcome_of_ours()
    desk.outcomes.expect(decision(1))
    desk.time.passes(SECONDS - 1)
    await desk.outcomes.report()
    assert desk.audit.kinds() == []

    desk.time.passes(1)
    await desk.outcomes.report()
    await desk.outcomes.report()

    assert desk.audit.kinds() == ["outcome_missing"]
    assert desk.audit.decisions() == [decision(1)]
    (line,) = said(logs, "outcome_missing")
    assert (line["log_level"], line["decisions"]) == ("warning", 1)


async def test_its_outcome_may_still_come_later_and_is_ours(desk: Desk) -> None:
    await desk.hear_an_outcome_of_ours()
    desk.outcomes.expect(decision(1))
    desk.time.passes(SECONDS)
    desk.outcomes.expect(decision(2))
    await desk.outcomes.report()
    await desk.hear(entry(decision(1)))
    desk.time.passes(SECONDS)
    await desk.outcomes.report()

    assert desk.audit.kinds() == ["outcome_missing", "outcome", "outcome_missing"]


async def test_a_call_that_goes_on_makes_no_record_and_is_not_missing(desk: Desk) -> None:
    await desk.hear_an_outcome_of_ours()
    desk.outcomes.expect(decision(1))
    for _ in range(5):
        desk.time.passes(SECONDS / 2)
        await desk.hear(entry(decision(1), access_log_type="DownstreamPeriodic"))
        await desk.outcomes.report()

    assert desk.audit.events == []


async def test_denials_are_recorded_and_not_awaited(desk: Desk) -> None:
    await desk.hear(refused(decision(1)), refused(None))

    assert desk.audit.kinds() == ["outcome", "outcome"]
    assert desk.audit.decisions() == [decision(1), None]


# ---- where this instance cannot tell


async def test_without_any_access_log_nothing_is_reported_but_their_number(
    desk: Desk, logs: Logs
) -> None:
    for number in range(3):
        desk.outcomes.expect(decision(number))
    desk.time.passes(SECONDS)
    await desk.outcomes.report()

    assert desk.audit.events == []
    (line,) = said(logs, "outcomes_unknown")
    assert (line["decisions"], line["why"]) == (3, "no_access_log")


async def test_where_another_replica_decides_too_silence_proves_nothing(
    desk: Desk, logs: Logs
) -> None:
    await desk.hear_an_outcome_of_ours()
    desk.outcomes.expect(decision(1))
    desk.time.passes(SECONDS / 2)
    await desk.hear(entry(decision(77)))
    desk.time.passes(SECONDS / 2)
    await desk.outcomes.report()

    assert desk.audit.kinds() == ["outcome"]
    (line,) = said(logs, "outcomes_unknown")
    assert (line["decisions"], line["why"]) == (1, "decisions_of_others")


async def test_a_denial_of_another_replica_is_no_sign_of_it_but_an_allow_passes_with_time(
    desk: Desk,
) -> None:
    """Only allows are awaited, so only of them is it known whose they are."""
    await desk.hear_an_outcome_of_ours()
    await desk.hear(refused(decision(76)), entry(decision(77)))
    desk.time.passes(SECONDS)
    desk.outcomes.expect(decision(1))
    desk.time.passes(SECONDS)
    await desk.outcomes.report()

    assert desk.audit.kinds() == ["outcome", "outcome", "outcome_missing"]


async def test_decisions_for_which_there_is_no_room_are_counted(
    desk: Desk, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.outcomes._pending = Pending(seconds=SECONDS, most=2)
    for number in range(5):
        desk.outcomes.expect(decision(number))
    await desk.outcomes.report()
    await desk.outcomes.report()

    (line,) = said(logs, "outcomes_unknown")
    assert (line["decisions"], line["why"]) == (3, "too_many")


# ---- calls that nobody allowed


async def test_a_bypass_is_recorded_and_raises_the_alarm(desk: Desk, logs: Logs) -> None:
    await desk.hear(entry(None))

    assert desk.audit.kinds() == ["outcome"]
    assert desk.audit.decisions() == [None]
    (line,) = said(logs, "call_without_decision")
    assert (line["log_level"], line["entries"], line["route"]) == ("error", 1, "crm")


async def test_the_alarm_sounds_once_a_minute_and_counts_all(desk: Desk, logs: Logs) -> None:
    await desk.hear(*[entry(None)] * 10)
    desk.time.passes(QUIET_SECONDS)
    await desk.outcomes.report()
    desk.time.passes(QUIET_SECONDS)
    await desk.outcomes.report()

    assert [line["entries"] for line in said(logs, "call_without_decision")] == [1, 9]


async def test_a_bypass_that_lasts_is_not_waited_for(desk: Desk, logs: Logs) -> None:
    await desk.hear(entry(None, access_log_type="DownstreamPeriodic"))

    assert desk.audit.events == []
    assert said(logs, "call_without_decision")


# ---- an audit that does not take them


async def test_an_outcome_waits_until_the_audit_takes_it(desk: Desk, logs: Logs) -> None:
    desk.audit.fault = "No space left on device"
    waiting = asyncio.create_task(desk.hear(entry(decision(1))))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    desk.audit.fault = ""
    await asyncio.wait_for(waiting, 5)

    assert desk.audit.kinds() == ["outcome"]
    assert [line["event"] for line in logs] == ["outcomes_stalled", "outcomes_resumed"]


async def test_a_report_that_cannot_be_written_is_made_the_next_time(desk: Desk) -> None:
    await desk.hear_an_outcome_of_ours()
    desk.outcomes.expect(decision(1))
    desk.time.passes(SECONDS)
    desk.audit.fault = "No space left on device"
    await desk.outcomes.report()
    desk.audit.fault = ""
    await desk.outcomes.report()

    assert desk.audit.kinds() == ["outcome_missing"]


async def test_outcomes_that_wait_for_room_on_the_disk_are_not_counted_as_lost(
    tmp_path: Path,
) -> None:
    """Only Checks are: they were denied, and nothing will tell of them."""
    file, clock = tmp_path / "audit.jsonl", Clock()
    log = AuditLog(quiet(file), clock)
    outcomes = Outcomes(log, clock, SECONDS)
    with capture_logs(), room_for(0):
        (one,) = read_entries(message(entry(decision(1))))
        waiting = asyncio.create_task(outcomes.take(one))
        with pytest.raises(AuditUnavailable):
            await log.append(outcome_missing_event(decision(2), seconds=1, time=1), seconds=5)
        await asyncio.sleep(0.5)
        assert not waiting.done()
    with capture_logs():
        await asyncio.wait_for(waiting, 5)
        await log.close()

    assert data_of("lost", file)["records"] == 1
    assert kinds_in(file).count("outcome") == 1


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """A limit on files, in place of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_outcomes_take_a_small_part_of_the_audit_s_queue(desk: Desk) -> None:
    desk.audit.is_open.clear()
    (one,) = read_entries(message(entry()))
    waiting = [asyncio.create_task(desk.outcomes.take(one)) for _ in range(5 * MAX_APPENDS)]
    await asyncio.sleep(0.05)
    desk.audit.is_open.set()
    await asyncio.gather(*waiting)

    assert desk.audit.most_at_once == MAX_APPENDS
    assert len(desk.audit.events) == 5 * MAX_APPENDS


async def test_a_defect_does_not_end_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = KeptAudit()
    outcomes = Outcomes(audit, MovableTime().clock, 0.0)
    outcomes.expect(decision(1))
    outcomes._is_told = True

    async def broken_once() -> None:
        monkeypatch.undo()
        raise ZeroDivisionError("what nobody may read")

    monkeypatch.setattr(audit, "room", broken_once)
    with capture_logs() as logs:
        running = asyncio.create_task(outcomes.run())
        await audit.has(1)
        running.cancel()

    assert audit.decisions() == [decision(1)]
    (line,) = said(logs, "report_failed")
    assert line["exception"] == "ZeroDivisionError"
    assert "what nobody may read" not in str(logs)


async def test_it_reports_by_itself() -> None:
    audit = KeptAudit()
    outcomes = Outcomes(audit, MovableTime().clock, 0.0)
    outcomes.expect(decision(1))
    outcomes._is_told = True
    running = asyncio.create_task(outcomes.run())
    await audit.has(1)
    running.cancel()

    assert audit.decisions() == [decision(1)]
