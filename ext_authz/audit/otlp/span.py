"""Which records each file holds: the audit file and those that were put aside from it."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from ext_authz.audit.chain import Head, Link, NotLinked, unlink
from ext_authz.audit.otlp.line_file import FileId, LineFile
from ext_authz.audit.tail import read_tail

_State = tuple[int, int, int, int]  # of a file: who it is, its size, and when it was written to
_LINES: Final = 64  # so many are looked at for the first record: others' lines are few


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The records of one file: `first` to `last` of a chain. `begun` is the first one's time in ms."""

    path: Path
    id: FileId
    first: int
    last: Head
    begun: int


class Spans:
    """Looks into files, and again only into those that changed: hundreds may have been put aside."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[_State, Span | None]] = {}

    def of(self, paths: Iterable[Path]) -> list[Span]:
        """Those of `paths` that hold records, in the order in which these were written."""
        self._seen = {path: self._look(path, state) for path, state in _states(paths)}
        return _in_order([span for _, span in self._seen.values() if span is not None])

    def _look(self, path: Path, state: _State) -> tuple[_State, Span | None]:
        seen = self._seen.get(path)
        return seen if seen is not None and seen[0] == state else (state, _span(path))


def _states(paths: Iterable[Path]) -> Iterator[tuple[Path, _State]]:
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                yield path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _in_order(found: Sequence[Span]) -> list[Span]:
    begun: dict[str, int] = {}
    for span in found:
        uid = span.last.chain_uid
        begun[uid] = min(span.begun, begun.get(uid, span.begun))
    return sorted(
        found, key=lambda span: (begun[span.last.chain_uid], span.last.chain_uid, span.first)
    )


def next_span(found: Sequence[Span], at: Head | None) -> Span | None:
    """The one of `found` (in the order of `Spans`) where reading goes on behind the record `at`."""
    uid = at.chain_uid if at else None
    same = [index for index, span in enumerate(found) if span.last.chain_uid == uid]
    if at is None or not same:
        return found[0] if found else None
    for index in same:
        if found[index].last.sequence > at.sequence:
            return found[index]
    return found[same[-1] + 1] if same[-1] + 1 < len(found) else None


def _span(path: Path) -> Span | None:
    with contextlib.suppress(OSError):
        first = _first(path)
        if first is not None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                last = read_tail(descriptor, status.st_size).head
            finally:
                os.close(descriptor)
            if last is not None and last.chain_uid == first[0].chain_uid:
                return Span(
                    path=path,
                    id=(status.st_dev, status.st_ino),
                    first=first[0].sequence,
                    last=last,
                    begun=first[1],
                )
    return None


def _first(path: Path) -> tuple[Link, int] | None:
    """The file's first record, and its time."""
    file = LineFile(path)
    try:
        for line in islice(iter(file.line, None), _LINES):
            with contextlib.suppress(NotLinked):
                return unlink(line), _time(line)
    finally:
        file.close()
    return None


def _time(line: bytes) -> int:
    try:
        return int(orjson.loads(line)["time"])
    except (ValueError, TypeError, LookupError):
        return 0
