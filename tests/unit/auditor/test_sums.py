"""`audit stats` adds up what happened, and says loudly what should not have."""

from pathlib import Path
from typing import Any

import pytest

from ext_authz.auditor.files import find_sources
from ext_authz.auditor.sums import Asked, Stats, Used, stats
from ext_authz.auditor.sums_text import sums_text
from tests.unit.auditor.chains import (
    BEGIN,
    STEP,
    Chain,
    decision,
    denial,
    log_event,
    outcome,
    write,
)

LATER = BEGIN + 10_000_000
USER = "https://idp.corp.example"


def summed(*files: str, **asked: Any) -> Stats:
    usual: dict[str, Any] = {"since": None, "until": None, "now": LATER, "outcome_ms": 60_000}
    return stats(find_sources(list(files)), Asked(**(usual | asked)))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A hundred calls: 10 denied, 1 corrected, 2 without an outcome, 3 past us."""
    chain = Chain()
    chain.append(log_event("opened", 0, cause="started"))
    for number in range(100):
        if number % 10 == 9:
            chain.append(denial(number))
            continue
        source = "exchange" if number % 10 == 0 else "cache"
        chain.append(decision(number, token_source=source, milliseconds=float(number)))
        if number not in {33, 44}:
            chain.append(outcome(number, http_status=500 if number == 55 else 200))
    chain.append(denial(8, "audit_slow", event="correction"))
    chain.extend(outcome(200 + each, decision_id=None) for each in range(3))
    chain.append(outcome(300, decision_id=None, reached_server=False, http_status=404))
    chain.append(log_event("lost", 301, records=4, since=BEGIN))
    chain.append(log_event("unsynced", 302, first=7, last=9))
    return write(tmp_path / "audit.jsonl", chain.lines)


def test_the_sums_are_right(file: str) -> None:
    found = summed(file)

    assert found.decisions == 100
    assert found.verdicts == {"allow": 89, "deny": 11}
    assert found.reasons == {"policy_denied": 10, "audit_slow": 1}
    assert found.token_sources == {"cache": 79, "exchange": 10}
    assert found.statuses == {"200": 90, "500": 1, "404": 1}
    assert sum(used.allowed + used.denied for used in found.users) == 100
    assert found.servers == (
        Used(name="crm", allowed=49, denied=1),
        Used(name="wiki", allowed=40, denied=10),
    )
    assert {used.name for used in found.tools} == {"crm create_ticket", "wiki create_ticket"}


def test_a_correction_counts_in_the_place_of_what_it_corrects(file: str) -> None:
    (used,) = (used for used in summed(file).users if used.name == f"user1 {USER}")

    assert (used.allowed, used.denied) == (12, 3)


def test_percentiles_are_those_of_what_was_measured(file: str) -> None:
    assert summed(file).milliseconds["exchange"] == {"p50": 40.0, "p95": 90.0, "p99": 90.0}


def test_calls_past_us_are_told_first(file: str) -> None:
    found = summed(file)

    assert found.bypassing_calls == 3
    assert next(iter(sums_text(found, top=3))).startswith("WARNING: 3 calls reached a server")


def test_allowed_calls_without_an_outcome_are_counted_once_the_time_is_over(file: str) -> None:
    assert summed(file).outcomes_missing == 2
    assert summed(file, now=BEGIN + 40 * STEP + 60_000).outcomes_missing == 1
    assert summed(file, now=BEGIN + 60_000).outcomes_missing == 0


def test_what_was_lost_and_what_the_disk_did_not_confirm_is_counted(file: str) -> None:
    found = summed(file)

    assert (found.lost_records, found.unsynced_records) == (4, 3)


def test_bounds_of_time_hold(file: str) -> None:
    found = summed(file, since=BEGIN + 10 * STEP, until=BEGIN + 20 * STEP)

    assert found.decisions == 10
    assert (found.bypassing_calls, found.lost_records, found.outcomes) == (0, 0, 9)


def test_an_outcome_in_another_replicas_file_counts(tmp_path: Path) -> None:
    one, other = Chain(), Chain()
    one.append(decision(1))
    other.append(outcome(1))
    files = [write(tmp_path / name, chain.lines) for name, chain in (("a", one), ("b", other))]

    assert summed(*files).outcomes_missing == 0
    assert summed(files[0]).outcomes_missing == 1


def test_the_text_shows_the_most_used(file: str) -> None:
    lines = list(sums_text(summed(file), top=2))

    assert "users (7, the 2 most used): allowed, denied" in lines
    assert all(line.isprintable() for line in lines)


def test_lines_that_the_service_does_not_write_are_counted(file: str) -> None:
    forged = b'{"time":1795000000000,"time_dt":"","unmapped":{"event":"%s"}}\n'
    path = Path(file)
    kinds = (b"decision", b"correction", b"outcome", b"lost", b"unsynced")
    path.write_bytes(path.read_bytes() + b"".join(forged % kind for kind in kinds))

    assert summed(file).unreadable == 5
    assert summed(file).decisions == 100


def test_an_empty_file_has_no_sums(tmp_path: Path) -> None:
    found = summed(write(tmp_path / "a", []))

    assert found.decisions == 0
    assert list(sums_text(found, top=2)) == ["0 decisions"]
