"""Where a chain stood, read from the ends of files that crashes and others have left."""

import os
from pathlib import Path

import pytest

from ext_authz.audit.chain import Head, link
from ext_authz.audit.tail import Tail, newest_head, read_tail
from tests.unit.audit.chains import event

FIRST, AT_FIRST = link(event("first"), Head.of_a_new_chain())
SECOND, AT_SECOND = link(event("second"), AT_FIRST)


def tail_of(file: Path, content: bytes) -> Tail:
    file.write_bytes(content)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return read_tail(descriptor, len(content))
    finally:
        os.close(descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_a_whole_file_ends_with_its_last_record(file: Path) -> None:
    content = FIRST + SECOND

    assert tail_of(file, content) == Tail(head=AT_SECOND, whole=len(content))


def test_a_whole_record_that_lacks_its_newline_counts(file: Path) -> None:
    content = (FIRST + SECOND).rstrip(b"\n")

    assert tail_of(file, content) == Tail(head=AT_SECOND, whole=len(content), is_open=True)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_record_does_not(file: Path, cut: int) -> None:
    content = FIRST + SECOND.rstrip(b"\n")[:-cut]

    assert tail_of(file, content) == Tail(head=AT_FIRST, whole=len(FIRST))


def test_nor_does_one_at_the_end_that_was_altered(file: Path) -> None:
    content = FIRST + SECOND.rstrip(b"\n").replace(b"second", b"secund")

    assert tail_of(file, content) == Tail(head=AT_FIRST, whole=len(FIRST))


def test_a_file_without_a_record_has_no_head(file: Path) -> None:
    assert tail_of(file, b"no record\n") == Tail(head=None, whole=0)


def test_the_newest_file_that_holds_a_record_is_where_the_chain_stood(tmp_path: Path) -> None:
    older, newer, empty = (tmp_path / name for name in ("older", "newer", "empty"))
    for age, (path, content) in enumerate([(older, FIRST), (newer, FIRST + SECOND), (empty, b"")]):
        path.write_bytes(content)
        os.utime(path, (age, age))

    assert newest_head([tmp_path / "gone", empty, older, newer]) == (newer, AT_SECOND)
    assert newest_head([tmp_path / "gone", empty]) is None
