"""Reads the chain from its files, record by record and file by file, behind the last one acknowledged.

The durable file is the queue: what is not acknowledged is read again. The records' own numbers tell
where reading goes on after a restart, a rename or a cut, and whether anything is missing. Everything
here blocks: one thread calls it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ext_authz.audit.chain import Head, Link, NotLinked, unlink
from ext_authz.audit.chain_file import siblings
from ext_authz.audit.otlp.line_file import LineFile
from ext_authz.audit.otlp.outage import Outage
from ext_authz.audit.otlp.position import load, position_file, save
from ext_authz.audit.otlp.span import Span, Spans, next_span
from ext_authz.log import Logger, logger

MAX_RECORDS: Final = 512
MAX_BYTES: Final = 1024 * 1024
_AT_A_STRETCH: Final = 32
_NOWHERE: Final = Head("", -1, "")
_log: Final[Logger] = logger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the chain, without its newline, and where the chain stands after it."""

    line: bytes
    head: Head


class Follower:
    """The records of the chain in `path` and its siblings, in batches that are given until acknowledged."""

    def __init__(
        self,
        path: Path,
        *,
        besides: Sequence[Path] = (),
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Goes on behind the position that is kept, if one is. `besides` look like siblings and are none.

        Make it before the first record is written: numbers that a loss of power freed are seen best then.
        """
        self._path = path
        self._besides = frozenset(besides)
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._position = position_file(path)
        self._at = load(self._position)  # the last record that was read
        self._file: LineFile | None = None
        self._first = 0  # the number of the first record of the file that is open
        self._is_fresh = True  # no record of it was read
        self._held: Record | None = None  # read, and too large for the batch before
        self._batch: list[Record] = []
        self._searched: Head | None = None  # where the record behind was looked for in all files
        self._known = Spans()
        self._lines = 0
        self._is_foreign = False  # it was told that others' lines stand in the file that is open
        # Nothing was read behind the acknowledged record yet.
        self._is_resuming = self._at is not None
        self._unkept = Outage("audit_otlp_position_unwritable", "audit_otlp_position_kept")
        self._begin()

    def batch(self) -> Sequence[Record]:
        """What is to be sent next: the same as before until it is acknowledged. May be empty.

        Raises `OSError`.
        """
        if not self._batch:
            try:
                self._collect()
            except OSError:
                self.close()  # it is found again by its numbers, whatever became of it
                raise
        return self._batch

    def acknowledge(self) -> None:
        """The batch was received: what comes next is behind it."""
        head, self._batch = self._batch[-1].head, []
        try:
            save(self._position, head)
        except OSError as error:
            self._unkept.note(error.strerror)
        else:
            self._unkept.end()

    def close(self) -> None:
        """Closes the file that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- what is in the files

    def _collect(self) -> None:
        size = 0
        while len(self._batch) < self._max_records:
            record, self._held = self._held or self._next(), None
            if record is None:
                return
            size += len(record.line)
            if self._batch and size > self._max_bytes:
                self._held = record
                return
            self._batch.append(record)

    def _next(self) -> Record | None:
        """The record behind the last one; None where none stands yet."""
        while (line := self._line()) is not None:
            try:
                found = unlink(line)
            except NotLinked:
                self._pass_over()
                continue
            if self._is_next(found):
                self._at, self._is_resuming = found.head, False
                return Record(line=line, head=found.head)
        return None

    def _pass_over(self) -> None:
        """Others' lines are told of once for each file: `audit verify` names them all."""
        if not self._is_foreign and self._file is not None:
            self._is_foreign = True
            _log.warning("audit_otlp_foreign_line", file=self._file.path.name)

    def _line(self) -> bytes | None:
        """The next line, in whichever file it stands."""
        self._lines += 1
        if self._lines % _AT_A_STRETCH == 0:
            time.sleep(0)  # Checks are answered by another thread of this interpreter
        while True:
            line = self._file.line() if self._file else None
            if line is not None or not self._turn():
                return line

    def _is_next(self, found: Link) -> bool:
        if self._is_fresh:
            self._first, self._is_fresh = found.sequence, False
        at = self._at if self._at and self._at.chain_uid == found.chain_uid else None
        expected = at.sequence + 1 if at else 0
        if at and found.sequence < expected:
            is_other = found.sequence == at.sequence and found.fingerprint != at.fingerprint
            if is_other and self._is_resuming:
                self._rewind(found.chain_uid, self._first)
            return False
        if found.sequence > expected and self._searched != (self._at or _NOWHERE):
            self._searched = self._at or _NOWHERE
            if self._open_next():
                return False
        if self._at and found.sequence > expected:
            _log.error("audit_otlp_gap", first=expected, last=found.sequence - 1)
        return True

    # -- which file

    def _begin(self) -> None:
        """Sees whether the acknowledged record still stands, as far as its number tells."""
        at = self._at
        same = [span for span in self._spans() if at and span.last.chain_uid == at.chain_uid]
        newest = max(same, key=lambda span: span.last.sequence, default=None)
        if at and newest and newest.last.sequence < at.sequence:
            self._rewind(at.chain_uid, newest.first)

    def _rewind(self, chain_uid: str, first: int) -> None:
        """Records that were acknowledged are gone from the file: a loss of power took them.

        Their numbers are in use again, so the file that they stood in is sent from its first record.
        """
        _log.error("audit_otlp_rewound", first=first)
        self._at, self._is_resuming = Head(chain_uid, first - 1, ""), False
        self.close()

    def _turn(self) -> bool:
        """At a file's end: opens the next one, if there is one. Says whether reading goes on."""
        file = self._file
        if file is None or file.is_cut():
            return self._open_next() or self._open(self._path)
        if file.is_at(self._path):
            return False
        span = self._next_span()
        if file.has_grown():  # while we looked elsewhere
            return True
        if span is not None and span.id == file.id:
            return file.finish()
        return span is not None and self._open(span.path)

    def _open_next(self) -> bool:
        """Opens the file that the record behind the last one stands in; says whether there is one."""
        span = self._next_span()
        return span is not None and self._open(span.path)

    def _next_span(self) -> Span | None:
        return next_span(self._spans(), self._at)

    def _open(self, path: Path) -> bool:
        try:
            file = LineFile(path)
        except OSError:
            return False  # renamed meanwhile: it is found by its new name the next time
        self.close()
        self._file, self._is_fresh, self._is_foreign = file, True, False
        return True

    def _spans(self) -> list[Span]:
        aside = (path for path in siblings(self._path) if path not in self._besides)
        return self._known.of([*aside, self._path])
