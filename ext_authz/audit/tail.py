"""The end of a file that a process left: its last whole record, and what is torn behind it."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ext_authz.audit.chain import Head, NotLinked, unlink

_BLOCK: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """`head` is None where no record stands; `whole` bytes end with the last record's newline.

    `is_open`: the last record is whole and lacks only its newline.
    """

    head: Head | None
    whole: int
    is_open: bool = False


def read_tail(descriptor: int, size: int) -> Tail:
    """The tail of an open file of `size` bytes."""
    for end, line in _lines_backwards(descriptor, size):
        with contextlib.suppress(NotLinked):
            found = unlink(line)
            if end < size:
                return Tail(head=found.head, whole=end + 1)
            if found.is_intact:
                return Tail(head=found.head, whole=end, is_open=True)
    return Tail(head=None, whole=0)


def sha256_of(descriptor: int, start: int, end: int) -> str:
    """SHA-256 of the bytes from `start` to `end`."""
    digest = hashlib.sha256()
    while start < end and (block := os.pread(descriptor, min(_BLOCK, end - start), start)):
        digest.update(block)
        start += len(block)
    return digest.hexdigest()


def newest_head(files: Iterable[Path]) -> tuple[Path, Head] | None:
    """The newest of `files` that holds a record, and where its chain stood at its end."""
    for path in sorted(files, key=_modified, reverse=True):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                tail = read_tail(descriptor, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
            if tail.head is not None:
                return path, tail.head
    return None


def _lines_backwards(descriptor: int, size: int) -> Iterable[tuple[int, bytes]]:
    """Each line, the last first, with the offset of its end: of its newline, or of the file."""
    rest, start, end = b"", size, size
    while start > 0:
        block = os.pread(descriptor, min(_BLOCK, start), max(0, start - _BLOCK))
        start -= len(block)
        *lines, rest_end = (block + rest).split(b"\n")
        for line in reversed([*lines[1:], rest_end] if lines else []):
            yield end, line
            end -= len(line) + 1
        rest = lines[0] if lines else rest_end
    if size:
        yield end, rest


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
