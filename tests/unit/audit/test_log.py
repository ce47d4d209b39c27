"""The audit log: one line a record, and no record that is not in the file."""

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.log import AuditLog, AuditUnavailable
from ext_authz.audit.record import AuditRecord, audit_record
from ext_authz.verdict.verdict import Allow
from tests.unit.trails import HER_TOKEN, trail

RECORD = audit_record(trail(), Allow(token=HER_TOKEN), milliseconds=1.5)
WHOLE = orjson.dumps(RECORD) + b"\n"
OpenLog = Callable[..., AuditLog]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def open_log(file: Path) -> Iterator[OpenLog]:
    """Opens the log as a process does that starts; closes it at the end."""
    opened: list[AuditLog] = []

    def open_it(path: str = "") -> AuditLog:
        opened.append(AuditLog(path or str(file)))
        return opened[-1]

    yield open_it
    for log in opened:
        log.close()


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """A limit at which the kernel cuts a write short, and refuses the next."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def named(subject: str) -> AuditRecord:
    return replace(RECORD, subject=subject)


def subjects_in(file: Path) -> list[str]:
    """Who stands in the log, line by line; every line is one JSON object."""
    lines = file.read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [orjson.loads(line)["subject"] for line in lines]


def test_a_record_is_in_the_file_once_append_returns(file: Path, open_log: OpenLog) -> None:
    log = open_log()
    for subject in ("alice", "bob"):
        log.append(named(subject))

        assert subjects_in(file)[-1] == subject


def test_a_line_is_the_record_and_nothing_else(file: Path, open_log: OpenLog) -> None:
    open_log().append(RECORD)

    assert file.read_bytes() == WHOLE


def test_what_stood_in_the_file_stays(file: Path, open_log: OpenLog) -> None:
    open_log().append(named("alice"))
    open_log().append(named("bob"))

    assert subjects_in(file) == ["alice", "bob"]


def test_two_processes_do_not_write_over_each_other(file: Path, open_log: OpenLog) -> None:
    one, other = open_log(), open_log()
    for log in (one, other, one):
        log.append(RECORD)

    assert len(subjects_in(file)) == 3


@given(st.text(st.characters(codec="utf-8")))
def test_no_text_makes_a_second_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any-text.jsonl"
    file.unlink(missing_ok=True)
    log = AuditLog(str(file))
    log.append(named(text))
    log.close()

    assert subjects_in(file) == [text]


def test_a_control_character_is_escaped(file: Path, open_log: OpenLog) -> None:
    open_log().append(named('\x1b[2J\r\n{"subject":"mallory"}\0'))

    assert not set(file.read_bytes().rstrip(b"\n")) & set(range(0x20))


def test_what_looks_like_another_or_steers_a_terminal_is_escaped(
    file: Path, open_log: OpenLog
) -> None:
    odd = "\u0430lice\u202e\u200b\u2028\x7f\x9b2J\U0001f600"
    open_log().append(named(odd))

    assert all(0x20 <= byte < 0x7F for byte in file.read_bytes().rstrip(b"\n"))
    assert subjects_in(file) == [odd]


def test_a_new_file_is_for_its_owner_and_group(
    usual_umask: None, file: Path, open_log: OpenLog
) -> None:
    open_log()

    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_the_mode_of_an_old_file_stays(file: Path, open_log: OpenLog) -> None:
    file.touch()
    file.chmod(0o600)
    open_log()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_renamed_away_keeps_its_records(file: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.append(named("alice"))
    moved = file.rename(file.with_suffix(".1"))
    log.append(named("bob"))

    assert subjects_in(moved) == ["alice", "bob"]


def test_a_file_that_is_cut_to_nothing_is_written_from_its_beginning(
    file: Path, open_log: OpenLog
) -> None:
    log = open_log()
    log.append(named("alice"))
    os.truncate(file, 0)
    log.append(named("bob"))

    assert subjects_in(file) == ["bob"]


# ---- torn lines


@pytest.mark.parametrize("torn", [b"{", WHOLE[:-1], WHOLE[:-20], WHOLE + b'{"time":'])
def test_a_line_that_a_dying_process_left_torn_is_closed_first(
    file: Path, open_log: OpenLog, torn: bytes
) -> None:
    file.write_bytes(torn)
    log = open_log()
    log.append(named("alice"))
    log.append(named("bob"))
    after = file.read_bytes()

    assert after.startswith(torn + b"\n")
    assert [orjson.loads(line)["subject"] for line in after.splitlines()[-2:]] == ["alice", "bob"]


def test_opening_a_torn_file_writes_nothing(file: Path, open_log: OpenLog) -> None:
    file.write_bytes(b"{")
    open_log()

    assert file.read_bytes() == b"{"


@pytest.mark.parametrize("size", [1, 2, len(WHOLE) // 2, len(WHOLE) - 1])
def test_a_write_that_is_cut_short_fails_and_is_closed_before_the_next(
    file: Path, open_log: OpenLog, size: int
) -> None:
    log = open_log()
    with room_for(size), pytest.raises(AuditUnavailable, match=r"^File too large$"):
        log.append(RECORD)
    torn = file.read_bytes()
    log.append(named("bob"))

    assert torn == WHOLE[:size]
    assert file.read_bytes().startswith(torn + b"\n{")
    assert orjson.loads(file.read_bytes().splitlines()[-1])["subject"] == "bob"


def test_a_torn_line_is_closed_once_though_only_that_succeeds(
    file: Path, open_log: OpenLog
) -> None:
    file.write_bytes(b"{")
    log = open_log()
    with room_for(2), pytest.raises(AuditUnavailable):
        log.append(RECORD)
    log.append(RECORD)

    assert file.read_bytes() == b"{\n" + WHOLE


def test_a_write_that_fails_whole_leaves_nothing(file: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.append(named("alice"))
    with room_for(file.stat().st_size), pytest.raises(AuditUnavailable):
        log.append(named("bob"))
    log.append(named("carol"))

    assert subjects_in(file) == ["alice", "carol"]


# ---- no record


def test_a_full_disk_is_a_fault(open_log: OpenLog) -> None:
    log = open_log("/dev/full")

    with pytest.raises(AuditUnavailable, match=r"^No space left on device$"):
        log.append(RECORD)


def test_after_it_is_closed_nothing_is_written_anywhere(file: Path, tmp_path: Path) -> None:
    log = AuditLog(str(file))
    descriptor = log._descriptor
    log.close()
    with (tmp_path / "other").open("w") as other:
        assert other.fileno() == descriptor  # the kernel gives the lowest free one
        with pytest.raises(AuditUnavailable, match=r"^Bad file descriptor$"):
            log.append(RECORD)
        assert os.fstat(other.fileno()).st_size == 0


def test_a_record_that_cannot_be_encoded_is_a_fault_and_leaves_no_trace(
    file: Path, open_log: OpenLog
) -> None:
    with pytest.raises(AuditUnavailable, match="cannot be encoded"):
        open_log().append(named("\ud800"))

    assert file.read_bytes() == b""


@pytest.mark.parametrize("path", ["", "missing/audit.jsonl", "file/audit.jsonl"])
def test_a_file_that_cannot_be_opened_is_a_fault_at_the_start(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(AuditUnavailable, match=f"^cannot open {tmp_path / path}: "):
        AuditLog(str(tmp_path / path))


def test_no_child_process_inherits_the_file(open_log: OpenLog) -> None:
    assert not os.get_inheritable(open_log()._descriptor)
