"""The follower: whatever happens to the files, each record is given, in order, and nothing is made up."""

import os
import shutil
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.chain import Head, link
from ext_authz.audit.chain_file import ChainFile
from ext_authz.audit.otlp.follower import Follower
from ext_authz.audit.otlp.line_file import MAX_LINE
from ext_authz.audit.otlp.position import position_file
from ext_authz.audit.otlp.span import Span, Spans
from ext_authz.settings.settings import Checkpoints, Rotation
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.movable_time import MovableTime
from tests.unit.audit.chains import event

Log = list[MutableMapping[str, Any]]
CLOCK = MovableTime().clock
NO_HEX = b'{"chain_uid":"zz","fingerprint":"","sequence":1}'
NO_NUMBER = b'{"chain_uid":"00","fingerprint":"00","sequence":true}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def chain(file: Path) -> Iterator[ChainFile]:
    chain = ChainFile(quiet(file), None, CLOCK)
    yield chain
    chain.close()


@pytest.fixture
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def write(chain: ChainFile, number: int = 1) -> None:
    for _ in range(number):
        chain.write([event("x")])


def taken(follower: Follower) -> list[int]:
    """The numbers of all records that stand now, each batch of them acknowledged."""
    numbers: list[int] = []
    while batch := follower.batch():
        numbers += [record.head.sequence for record in batch]
        follower.acknowledge()
    return numbers


def lines_taken(follower: Follower) -> list[bytes]:
    """As `taken`, their lines."""
    lines: list[bytes] = []
    while batch := follower.batch():
        lines += [record.line for record in batch]
        follower.acknowledge()
    return lines


def faults(log: Log) -> list[object]:
    return [entry["event"] for entry in log if entry["event"] != "audit_file_truncated"]


def copytruncate(file: Path, copy: Path) -> None:
    shutil.copyfile(file, copy)
    os.truncate(file, 0)


def test_every_record_is_given_once_in_order(file: Path, chain: ChainFile) -> None:
    follower = Follower(file, max_records=3)
    write(chain, 5)
    first = taken(follower)
    write(chain, 2)

    assert first == [0, 1, 2, 3, 4, 5]  # with `opened`
    assert taken(follower) == [6, 7]
    assert taken(follower) == []


def test_what_is_given_is_the_line_byte_for_byte(file: Path, chain: ChainFile) -> None:
    write(chain)
    lines = [record.line for record in Follower(file).batch()]

    assert b"\n".join([*lines, b""]) == file.read_bytes()


def test_a_line_is_given_only_once_it_is_whole(file: Path, tmp_path: Path) -> None:
    first, head = link(event("x"), Head.of_a_new_chain())
    second, _ = link(event("y"), head)
    file.write_bytes(first + second[:-1])
    follower = Follower(file)

    assert taken(follower) == [0]
    with file.open("ab") as out:
        out.write(b"\n")
    assert taken(follower) == [1]


def test_a_batch_is_bounded_in_bytes(file: Path, chain: ChainFile) -> None:
    write(chain, 9)
    size = len(file.read_bytes().splitlines()[-1])
    follower = Follower(file, max_bytes=3 * size)

    sizes = []
    while batch := follower.batch():
        sizes.append(sum(len(record.line) for record in batch))
        follower.acknowledge()
    assert max(sizes) <= 3 * size
    assert len(sizes) >= 4


def test_a_record_larger_than_a_batch_goes_alone(file: Path, chain: ChainFile) -> None:
    write(chain, 3)

    assert taken(Follower(file, max_bytes=1)) == [0, 1, 2, 3]


def test_what_is_not_acknowledged_is_given_again(file: Path, chain: ChainFile) -> None:
    write(chain, 3)
    follower = Follower(file, max_records=2)
    before = list(follower.batch())

    assert list(follower.batch()) == before
    assert list(Follower(file, max_records=2).batch()) == before


def test_a_restart_goes_on_behind_what_was_acknowledged(file: Path, chain: ChainFile) -> None:
    write(chain, 3)
    follower = Follower(file, max_records=2)
    follower.batch()
    follower.acknowledge()
    follower.batch()
    write(chain)

    assert taken(Follower(file)) == [2, 3, 4]


def test_files_that_the_service_put_aside_are_followed(file: Path) -> None:
    settings = quiet(file, rotation=Rotation(megabytes=0.001, seconds=NEVER))
    chain = ChainFile(settings, None, CLOCK)
    follower, numbers = Follower(file), []
    for _ in range(30):
        write(chain)
        numbers += taken(follower)
    chain.close()

    assert len(list(file.parent.glob("audit-*.jsonl"))) > 3
    numbers += taken(follower)
    assert numbers == list(range(len(numbers)))
    assert taken(Follower(file)) == []


def test_after_a_restart_the_oldest_unsent_file_comes_first(file: Path) -> None:
    settings = quiet(file, rotation=Rotation(megabytes=0.001, seconds=NEVER))
    chain = ChainFile(settings, None, CLOCK)
    write(chain, 2)
    sent = taken(Follower(file))
    write(chain, 40)
    chain.close()
    rest = taken(Follower(file))

    assert len(list(file.parent.glob("audit-*.jsonl"))) > 3
    assert [*sent, *rest] == list(range(len(sent) + len(rest)))


def test_a_file_renamed_by_logrotate_is_read_to_its_end_first(file: Path, chain: ChainFile) -> None:
    follower = Follower(file)
    write(chain, 2)
    numbers = taken(follower)
    write(chain, 2)
    file.rename(file.with_name("audit.jsonl.1"))
    write(chain, 2)
    numbers += taken(follower)

    assert numbers == list(range(8))


def test_a_file_renamed_twice_before_anybody_looks_is_followed(
    file: Path, chain: ChainFile
) -> None:
    follower = Follower(file)
    write(chain, 2)
    numbers = taken(follower)
    for name in ("audit.jsonl.2", "audit.jsonl.1"):
        write(chain, 2)
        file.rename(file.with_name(name))
    write(chain)
    numbers += taken(follower)

    assert numbers == list(range(len(numbers)))
    assert numbers[-1] == 9


def test_a_file_deleted_under_our_eyes_is_read_to_its_end(file: Path, chain: ChainFile) -> None:
    follower = Follower(file)
    write(chain, 2)
    numbers = taken(follower)
    write(chain, 2)
    file.unlink()
    write(chain, 2)
    numbers += taken(follower)

    assert numbers == list(range(8))


@pytest.mark.parametrize("later", [1, 20])
def test_copytruncate_loses_nothing_that_the_copy_holds(
    file: Path, chain: ChainFile, later: int
) -> None:
    """With 20, the file is longer again than it was before anybody looks."""
    follower = Follower(file)
    write(chain, 3)
    numbers = taken(follower)
    write(chain, 3)
    copytruncate(file, file.with_name("audit.jsonl.1"))
    write(chain, later)
    numbers += taken(follower)

    assert numbers == list(range(len(numbers)))
    assert len(numbers) == 1 + 3 + 3 + later + 1  # opened, truncated


def test_records_that_nobody_has_any_more_are_told_of(
    file: Path, chain: ChainFile, log: Log
) -> None:
    follower = Follower(file)
    write(chain, 2)
    numbers = taken(follower)
    write(chain, 3)
    os.truncate(file, 0)
    write(chain, 9)
    numbers += taken(follower)

    assert numbers == [0, 1, 2, *range(6, 16)]
    gaps = [entry for entry in log if entry["event"] == "audit_otlp_gap"]
    assert [(gap["first"], gap["last"]) for gap in gaps] == [(3, 5)]


def test_files_put_aside_are_not_read_again_and_again(
    file: Path, chain: ChainFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a rename and the next record every look is one for the file that comes next."""
    for number in range(5):
        write(chain)
        file.rename(file.with_name(f"audit.jsonl.{number}"))
    follower, opened = Follower(file), []
    assert len(taken(follower)) == 10
    open_file = os.open

    def noted(path: Path, flags: int) -> int:
        opened.append(path)
        return open_file(path, flags)

    monkeypatch.setattr(os, "open", noted)
    assert [list(follower.batch()) for _ in range(20)] == [[]] * 20
    monkeypatch.undo()
    write(chain)

    assert opened == []
    assert taken(follower) == [10, 11]


def test_a_gap_in_a_file_that_was_deleted_is_told_of(file: Path, log: Log) -> None:
    first, head = link(event("first"), Head.of_a_new_chain())
    _, head = link(event("lost"), head)
    third, _ = link(event("third"), head)
    file.write_bytes(first)
    follower = Follower(file)
    assert taken(follower) == [0]
    with file.open("ab") as out:
        file.unlink()
        out.write(third)

    assert taken(follower) == [2]
    assert faults(log) == ["audit_otlp_gap"]


def test_what_is_written_while_the_next_file_is_looked_for_comes_first(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """Before a writer notices that its file has gone, it may write to it once more."""
    first, head = link(event("first"), Head.of_a_new_chain())
    late, head = link(event("late"), head)
    third, _ = link(event("third"), head)
    file.write_bytes(first)
    follower = Follower(file)
    assert taken(follower) == [0]
    look = Spans.of

    def written_to(known: Spans, paths: Iterable[Path]) -> list[Span]:
        monkeypatch.undo()
        out.write(late)
        out.flush()
        file.write_bytes(third)
        return look(known, paths)

    with file.open("ab") as out:
        file.unlink()
        monkeypatch.setattr(Spans, "of", written_to)
        numbers = taken(follower)

    assert numbers == [1, 2]
    assert faults(log) == []


def test_a_file_put_aside_that_holds_two_chains_is_none_of_ours(file: Path) -> None:
    """Somebody made it by hand: neither its first nor its last record says what stands in it."""
    one, _ = link(event("one"), Head.of_a_new_chain())
    other, _ = link(event("other"), Head.of_a_new_chain())
    file.with_name("audit.jsonl.1").write_bytes(one + other)
    file.write_bytes(link(event("ours"), Head.of_a_new_chain())[0])

    assert taken(Follower(file)) == [0]


def test_lines_of_others_are_passed_over(file: Path, chain: ChainFile, log: Log) -> None:
    write(chain)
    with file.open("ab") as out:
        out.write(b"not a record\n" + b"x" * (2 * MAX_LINE) + b"\nnor this\n")
    write(chain)

    numbers = taken(Follower(file))
    assert numbers == list(range(len(numbers)))
    assert "audit_otlp_gap" not in faults(log)
    assert faults(log).count("audit_otlp_foreign_line") == 1
    assert b"not a record" not in repr(log).encode()


def test_a_torn_line_is_passed_over_and_its_event_sent(file: Path, chain: ChainFile) -> None:
    write(chain, 2)
    chain.close()
    torn = file.read_bytes()
    file.write_bytes(torn + b'{"half":')
    again = ChainFile(quiet(file), None, CLOCK)
    write(again)
    again.close()
    lines = [record.line for record in Follower(file).batch()]

    assert sum(b'"event":"torn"' in line for line in lines) == 1
    assert not any(b"half" in line for line in lines)


def test_numbers_that_a_loss_of_power_freed_are_sent_with_their_new_records(
    file: Path, log: Log
) -> None:
    first, head = link(event("first"), Head.of_a_new_chain())
    lost, _ = link(event("lost"), head)
    new, _ = link(event("new"), head)
    file.write_bytes(first + lost)
    assert taken(Follower(file)) == [0, 1]
    file.write_bytes(first + new)
    lines = [record.line for record in Follower(file).batch()]

    assert lines == [first[:-1], new[:-1]]
    assert faults(log) == ["audit_otlp_rewound"]


def test_a_file_shorter_than_what_was_acknowledged_is_sent_again(file: Path, log: Log) -> None:
    first, head = link(event("first"), Head.of_a_new_chain())
    lost, _ = link(event("lost"), head)
    new, _ = link(event("new"), head)
    file.write_bytes(first + lost)
    assert taken(Follower(file)) == [0, 1]
    file.write_bytes(first)
    follower = Follower(file)
    assert taken(follower) == [0]
    with file.open("ab") as out:
        out.write(new)

    assert [record.line for record in follower.batch()] == [new[:-1]]
    assert faults(log) == ["audit_otlp_rewound"]


def test_a_forged_repetition_is_passed_over_and_ends(file: Path) -> None:
    first, head = link(event("first"), Head.of_a_new_chain())
    second, after = link(event("second"), head)
    forged, _ = link(event("forged"), head)
    third, _ = link(event("third"), after)
    file.write_bytes(first + second + forged + third)

    assert taken(Follower(file)) == [0, 1, 2]


def test_a_last_record_without_newline_in_a_file_put_aside_is_given(file: Path, log: Log) -> None:
    first, head = link(event("first"), Head.of_a_new_chain())
    second, after = link(event("second"), head)
    third, _ = link(event("third"), after)
    file.write_bytes(first + second[:-1])
    follower = Follower(file)
    assert taken(follower) == [0]
    file.rename(file.with_name("audit.jsonl.1"))
    file.write_bytes(third)

    assert taken(follower) == [1, 2]
    assert faults(log) == []


def test_the_second_checkpoint_file_is_no_sibling(file: Path) -> None:
    second = file.with_name("audit.checkpoints.jsonl")
    checkpoints = Checkpoints(records=2, seconds=NEVER, file=str(second))
    chain = ChainFile(quiet(file, checkpoints=checkpoints), None, CLOCK)
    write(chain, 9)
    chain.close()

    numbers = taken(Follower(file, besides=[second]))
    assert second.read_bytes()
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"chain_uid":1}', b"\xff", NO_HEX, NO_NUMBER]
)
def test_an_unreadable_position_sends_everything_again(
    file: Path, chain: ChainFile, log: Log, content: bytes
) -> None:
    write(chain, 2)
    position_file(file).write_bytes(content)

    assert taken(Follower(file)) == [0, 1, 2]
    assert faults(log) == ["audit_otlp_position_unreadable"]


def test_a_position_that_cannot_be_kept_stops_nothing(
    file: Path, chain: ChainFile, log: Log
) -> None:
    position_file(file).mkdir()
    (position_file(file) / "in-the-way").touch()
    write(chain, 2)
    follower = Follower(file, max_records=2)

    assert taken(follower) == [0, 1, 2]
    assert faults(log) == ["audit_otlp_position_unreadable", "audit_otlp_position_unwritable"]
    shutil.rmtree(position_file(file))
    write(chain)
    assert taken(follower) == [3]
    assert faults(log)[2:] == ["audit_otlp_position_kept"]
    assert taken(Follower(file)) == []


def test_a_chain_of_its_own_is_sent_behind_the_one_before(file: Path) -> None:
    old, _ = link(b'{"time":1,"unmapped":{"event":"opened"}}', Head.of_a_new_chain())
    new, _ = link(b'{"time":2,"unmapped":{"event":"opened"}}', Head.of_a_new_chain())
    file.with_name("audit.jsonl.1").write_bytes(old)
    file.write_bytes(new)

    assert [record.line for record in Follower(file).batch()] == [old[:-1], new[:-1]]


def test_nothing_is_given_while_there_is_no_file(file: Path) -> None:
    follower = Follower(file)
    assert taken(follower) == []
    file.write_bytes(link(event("x"), Head.of_a_new_chain())[0])

    assert taken(follower) == [0]


ACTS = ["write", "write", "read", "rotate", "copytruncate", "delete", "restart"]


@given(acts=st.lists(st.sampled_from(ACTS), max_size=40))
def test_whatever_happens_between_looks_no_record_is_missed(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    """Deleting comes only behind a look: what nobody read and nobody has is gone."""
    file = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    chain, follower = ChainFile(quiet(file), None, CLOCK), Follower(file, max_records=3)
    written: list[bytes] = []
    received: list[bytes] = []
    for index, act in enumerate([*acts, "write", "read"]):
        match act:
            case "write":
                written += chain.write([event("x")]).splitlines()
            case "read":
                received += lines_taken(follower)
            case "rotate" if file.exists():
                file.rename(file.with_name(f"audit.jsonl.{index}"))
            case "copytruncate" if file.exists():
                copytruncate(file, file.with_name(f"audit.jsonl.{index}"))
            case "delete":
                received += lines_taken(follower)
                file.unlink(missing_ok=True)
            case "restart":  # the service: both of them
                written += chain.checkpoint().splitlines()
                chain.close()
                follower.close()
                chain, follower = (
                    ChainFile(quiet(file), None, CLOCK),
                    Follower(file, max_records=3),
                )
    chain.close()
    follower.close()

    assert list(dict.fromkeys(received)) == written
    assert len(written) >= 2
