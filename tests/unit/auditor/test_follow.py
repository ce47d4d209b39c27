"""A file is followed as it grows, through every kind of rotation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ext_authz.auditor.follow import Tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"old\n")
    return path


@pytest.fixture
def tail(path: Path) -> Iterator[Tail]:
    tail = Tail(path, 4, path.stat().st_ino)
    yield tail
    tail.close()


def add(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_only_what_is_new_is_given(path: Path, tail: Tail) -> None:
    assert not list(tail.lines())
    add(path, b"one\ntwo\n")
    assert list(tail.lines()) == [b"one", b"two"]
    assert not list(tail.lines())


def test_a_line_is_given_once_it_is_whole(path: Path, tail: Tail) -> None:
    add(path, b"on")
    assert not list(tail.lines())
    add(path, b"e\n")
    assert list(tail.lines()) == [b"one"]


def test_a_renamed_file_is_read_to_its_end_and_then_its_successor(path: Path, tail: Tail) -> None:
    path.rename(path.with_suffix(".1"))
    add(path.with_suffix(".1"), b"last\n")
    assert list(tail.lines()) == [b"last"]
    add(path.with_suffix(".1"), b"very last\n")
    add(path, b"first\n")
    assert list(tail.lines()) == [b"very last", b"first"]


def test_a_file_that_was_cut_is_read_anew(path: Path, tail: Tail) -> None:
    path.write_bytes(b"")
    assert not list(tail.lines())
    add(path, b"anew\n")
    assert list(tail.lines()) == [b"anew"]


def test_a_file_that_was_deleted_is_waited_for(path: Path, tail: Tail) -> None:
    path.unlink()
    assert not list(tail.lines())
    path.write_bytes(b"again\n")
    assert list(tail.lines()) == [b"again"]


def test_a_file_that_was_rotated_meanwhile_is_read_from_its_beginning(path: Path) -> None:
    tail = Tail(path, 4, inode=1)
    try:
        assert list(tail.lines()) == [b"old"]
    finally:
        tail.close()
