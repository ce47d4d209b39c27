"""`audit show` finds what is asked for, joins what belongs to it, and prints nothing that steers."""

import time
from pathlib import Path
from typing import Any

import pytest

from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.auditor.files import BadInput, find_sources
from ext_authz.auditor.joined import Row, logs
from ext_authz.auditor.table import NARROWEST, Table
from ext_authz.auditor.wanted import Wanted, moment
from tests.unit.auditor.chains import (
    BEGIN,
    STEP,
    Chain,
    decision,
    decision_id,
    denial,
    log_event,
    outcome,
    write,
)

FINGERPRINT = Fingerprints("k" * 32).of(b"digest")


def rows(*files: str, newest: int | None = None, **wanted: Any) -> list[Row]:
    with logs(find_sources(list(files))) as found:
        return list(found.rows(Wanted(**wanted), newest=newest))


def ids(found: list[Row]) -> list[str]:
    return [row.decision.decision_id for row in found]


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Calls 0 to 39; 5 has no outcome, 6 failed behind us, 7 is denied, 8 is corrected, 9 has a token."""
    chain = Chain()
    chain.append(log_event("opened", 0, cause="started"))
    changes: dict[int, dict[str, Any]] = {
        9: {"user_token_fingerprint": FINGERPRINT},
        10: {"mcp_target": 'name "with" quotes \\ and \u202e'},
        11: {"subject": "\x1b[31mred"},
    }
    for number in range(40):
        if number == 7:
            chain.append(denial(number))
        else:
            chain.append(decision(number, **changes.get(number, {})))
        if number not in {5, 7}:
            chain.append(outcome(number, http_status=502 if number == 6 else 200))
    chain.append(denial(8, "audit_slow", event="correction", http_status=503))
    chain.checkpoint()
    return write(tmp_path / "audit.jsonl", chain.lines)


def test_all_decisions_come_by_their_time(file: str) -> None:
    assert ids(rows(file)) == [decision_id(number) for number in range(40)]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"user": "user3"}, [3, 10, 17, 24, 31, 38]),
        ({"user": "user3", "server": "crm"}, [10, 24, 38]),
        ({"user": "user"}, []),
        ({"tool": "create_ticket", "user": "user3", "server": "crm"}, [24, 38]),
        ({"tool": 'name "with" quotes \\ and \u202e'}, [10]),
        ({"user": "\x1b[31mred"}, [11]),
        ({"reason": "policy_denied"}, [7]),
        ({"verdict": "deny"}, [7, 8]),
        ({"decision": decision_id(12)}, [12]),
        ({"decision": decision_id(12)[:9]}, [12]),
        ({"fingerprint": FINGERPRINT}, [9]),
        ({"outcome": "missing"}, [5, 7]),
        ({"outcome": "502"}, [6]),
        ({"outcome": "5xx"}, [6]),
        ({"outcome": "unreached"}, []),
        ({"since": BEGIN + 37 * STEP}, [37, 38, 39]),
        ({"until": BEGIN + 2 * STEP}, [0, 1]),
        ({"since": BEGIN + 2 * STEP, "until": BEGIN + 4 * STEP}, [2, 3]),
    ],
)
def test_a_filter_gives_what_matches(file: str, wanted: dict[str, Any], numbers: list[int]) -> None:
    assert ids(rows(file, **wanted)) == [decision_id(number) for number in numbers]


def test_a_correction_stands_in_the_place_of_what_it_corrects(file: str) -> None:
    (row,) = rows(file, decision=decision_id(8))

    assert (row.decision.verdict, row.decision.reason) == ("deny", "audit_slow")
    assert not [row for row in rows(file, verdict="allow") if row.decision.is_correction]
    assert ids(rows(file, reason="audit_slow")) == [decision_id(8)]


def test_the_newest_are_the_last(file: str) -> None:
    assert ids(rows(file, newest=2)) == [decision_id(38), decision_id(39)]
    assert ids(rows(file, newest=1, verdict="deny")) == [decision_id(8)]


def test_the_stored_lines_come_unchanged(file: str) -> None:
    (row,) = rows(file, decision=decision_id(8))
    stored = Path(file).read_bytes().split(b"\n")

    assert len(row.lines) == 3
    assert all(line in stored for line in row.lines)


def test_files_of_several_replicas_are_one_log(tmp_path: Path) -> None:
    files = []
    for replica in range(2):
        chain = Chain()
        chain.extend(decision(number) for number in range(replica, 20, 2))
        chain.extend(outcome(number) for number in range(1 - replica, 20, 2))
        files.append(write(tmp_path / str(replica), chain.lines))

    found = rows(*files)

    assert ids(found) == [decision_id(number) for number in range(20)]
    assert all(row.outcome is not None for row in found)


def test_bounds_of_time_hold_in_a_long_file(tmp_path: Path) -> None:
    """Longer than what is read line by line, with times that are not quite in order."""
    chain = Chain()
    shuffled = [number ^ 3 for number in range(0, 160_000, 20)]
    for number in shuffled:
        chain.append(decision(number))
    path = write(tmp_path / "a", chain.lines)

    for begin, end in ((0, 200), (79_000, 81_000), (159_000, 160_000), (10**6, 10**7)):
        found = rows(path, since=BEGIN + begin * STEP, until=BEGIN + end * STEP)

        assert ids(found) == [decision_id(n) for n in sorted(shuffled) if begin <= n < end]


def test_a_line_that_is_no_event_is_passed_over(file: str) -> None:
    path = Path(file)
    path.write_bytes(path.read_bytes() + b'{"log_name":"decision"\n[1]\n{"unmapped":3}\nhalf')

    assert len(rows(file)) == 40


@pytest.mark.parametrize("content", [b"\x00" * 5000, b"text\n", b'{"a":1}\n'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match="holds no audit record"):
        rows(write(tmp_path / "a", [content]))


def test_an_outcome_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadInput, match="is no outcome"):
        Wanted(outcome="6xx")


# -- times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", 1000 - 900),
        ("2h", 1000 - 7200),
        ("3d", 1000 - 3 * 86400),
        ("30s", 970),
        ("1970-01-01T00:00:09Z", 9),
        ("1970-01-01T02:00:09+02:00", 9),
        ("1970-01-01T00:00:09", 9),
        ("1970-01-02", 86400),
    ],
)
def test_a_time_is_a_moment_or_so_long_ago(text: str, expected: int) -> None:
    assert moment(text, 1000.0) == expected * 1000


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5w", "2026-13-01", "-5m"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(BadInput, match="is no time"):
        moment(text, 1000.0)


# -- the table


@pytest.mark.parametrize("width", [NARROWEST, 150, 240])
def test_the_table_is_as_wide_as_the_terminal(file: str, width: int) -> None:
    table = Table(width)
    lines = [table.head(), *(table.row(row) for row in rows(file))]

    assert max(map(len, lines)) <= width
    assert all(line.isprintable() and line.isascii() for line in lines)


def test_nothing_is_cut_where_a_program_reads(file: str) -> None:
    table = Table(None)
    (row,) = rows(file, decision=decision_id(10))

    assert 'name "with" quotes' in table.row(row)
    assert "2026-11-18T11:06:40.100" in table.row(row)


def test_a_row_tells_the_decision_and_what_became_of_it(file: str) -> None:
    table = Table(NARROWEST)
    lines = {n: table.row(rows(file, decision=decision_id(n))[0]).split() for n in (3, 5, 7)}

    assert lines[3] == [
        *("11-18", "11:06:40", "allow", "user3", "wiki", "create_ticket", "4.5", "200"),
        decision_id(3),
    ]
    assert lines[5][-2] == "-"
    assert lines[7][2:4] == ["policy_denied", "user0"]


def test_a_steering_text_of_a_forged_file_is_escaped(tmp_path: Path) -> None:
    """A whole file may be made up, and hold what the service never writes."""
    chain = Chain()
    good = chain.append(decision(1))
    forged = good.replace(b"create_ticket", rb"\u001b[2J\u202e")
    (row,) = rows(write(tmp_path / "a", [good, forged.replace(b"11:06", b"11:07")]), newest=1)
    line = Table(None).row(row)

    assert line.isprintable()


# -- speed


def test_a_record_in_a_large_file_is_found_at_once(tmp_path: Path) -> None:
    chain = Chain()
    chain.extend([decision(1), decision(2), outcome(1)])
    many = [chain.lines[1]] * 40_000
    path = write(tmp_path / "a", [*many, chain.lines[0], *many, chain.lines[2]])

    begun = time.process_time()
    (row,) = rows(path, user="user1")

    assert time.process_time() - begun < 1
    assert row.outcome is not None
