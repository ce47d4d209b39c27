"""One walk over a part of a file: which lines follow each other as records of a chain do.

A worker process makes it, so what it gives is small: runs of records that need no further look, the
lines that are none, and the log's own events.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from ext_authz.audit.chain import Link, NotLinked, continues, unlink
from ext_authz.auditor.files import Data

_RECORD_END: Final = b"}}}"
_LOG_EVENT: Final = b'"class_uid":0,'  # within a text, a quote has a backslash before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Lines that are one record after the other: `first` to `last`, behind the record `previous`.

    `line` is the first's, from 0; `offset` is where it begins and `end` where the last one ends.
    """

    chain: str
    first: int
    last: int
    previous: str
    fingerprint: str
    line: int
    offset: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A line that is no intact record. `claimed`: what it says to be; `is_open`: it has no newline."""

    line: int
    offset: int
    length: int
    claimed: Link | None
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """An event of the log itself, in an intact record."""

    line: int
    link: Link
    event: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.event["unmapped"]["event"])

    @property
    def data(self) -> dict[str, Any]:
        """What the event says of its kind."""
        data = self.event["unmapped"]["log"].get(self.kind)
        return data if isinstance(data, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What a part of a file holds: `lines` of them.

    `ends_open`: its last record lacks its newline. `excused`: bytes that a `torn` event accounts for.
    """

    lines: int
    ends_open: bool
    pieces: tuple[Run | Odd, ...]
    log_lines: tuple[LogLine, ...]
    excused: tuple[tuple[int, int], ...]


def walk(data: Data, start: int, end: int) -> Walked:
    """The lines from `start`, where one begins, to `end`, where one or the file ends."""
    return _Walk(data, start).over(data[start:end])


def joined(parts: list[Walked]) -> Walked:
    """The parts of one file as one."""
    pieces: list[Run | Odd] = []
    log_lines: list[LogLine] = []
    lines = 0
    for part in parts:
        for piece in part.pieces:
            _append(pieces, replace(piece, line=piece.line + lines))
        log_lines += (replace(each, line=each.line + lines) for each in part.log_lines)
        lines += part.lines
    excused = tuple(span for part in parts for span in part.excused)
    return Walked(
        lines=lines,
        ends_open=bool(parts) and parts[-1].ends_open,
        pieces=tuple(pieces),
        log_lines=tuple(log_lines),
        excused=excused,
    )


def _append(pieces: list[Run | Odd], piece: Run | Odd) -> None:
    before = pieces[-1] if pieces else None
    if isinstance(before, Run) and isinstance(piece, Run) and _follows(piece, before):
        pieces[-1] = replace(before, last=piece.last, fingerprint=piece.fingerprint, end=piece.end)
    else:
        pieces.append(piece)


def _follows(run: Run, before: Run) -> bool:
    theirs = (before.chain, before.last + 1, before.fingerprint)
    return (run.chain, run.first, run.previous) == theirs


def _is_whole(line: bytes) -> bool:
    """Whether a whole record stands in `line`: then it was not cut off, whatever else befell it."""
    try:
        unlink(line[: line.rfind(_RECORD_END) + len(_RECORD_END)])
    except NotLinked:
        return False
    return True


class _Walk:
    """Where the walk stands: the run that it is in, the line and the offset."""

    def __init__(self, data: Data, start: int) -> None:
        self._data = data
        self._offset = start
        self._pieces: list[Run | Odd] = []
        self._log_lines: list[LogLine] = []
        self._excused: list[tuple[int, int]] = []

    def over(self, block: bytes) -> Walked:
        lines = block.split(b"\n")
        is_open = bool(lines[-1])
        if not is_open:
            lines.pop()
        number = 0
        while number < len(lines):
            number = self._from(lines, number, is_open=is_open)
        return Walked(
            lines=len(lines),
            ends_open=is_open and isinstance(self._pieces[-1], Run),
            pieces=tuple(self._pieces),
            log_lines=tuple(self._log_lines),
            excused=tuple(self._excused),
        )

    def _from(self, lines: list[bytes], number: int, *, is_open: bool) -> int:
        """One odd line, or a run to its end; gives the number of the line behind it."""
        line = lines[number]
        try:
            link: Link | None = unlink(line)
        except NotLinked:
            link = None
        if link is not None and link.is_intact:
            return self._run(lines, number, link)
        self._pieces.append(
            Odd(
                line=number,
                offset=self._offset,
                length=len(line),
                claimed=link,
                is_open=is_open and number == len(lines) - 1 and not _is_whole(line),
            )
        )
        self._offset += len(line) + 1
        return number + 1

    def _run(self, lines: list[bytes], begin: int, first: Link) -> int:
        """The loop that all the time goes into."""
        chain, previous = first.chain_uid.encode(), first.previous.encode()
        offset = begun = self._offset
        number, sequence = begin, first.sequence
        while number < len(lines):
            line = lines[number]
            fingerprint = continues(line, chain, previous, sequence)
            if fingerprint is None:
                break
            if _LOG_EVENT in line:
                self._log_line(line, number, offset)
            previous = fingerprint
            offset += len(line) + 1
            sequence += 1
            number += 1
        self._offset = offset
        run = Run(
            chain=first.chain_uid,
            first=first.sequence,
            last=sequence - 1,
            previous=first.previous,
            fingerprint=previous.decode(),
            line=begin,
            offset=begun,
            end=offset,
        )
        self._pieces.append(run)
        return number

    def _log_line(self, line: bytes, number: int, offset: int) -> None:
        try:
            log_line = LogLine(line=number, link=unlink(line), event=orjson.loads(line))
            kind, data = log_line.kind, log_line.data
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return  # it is in the chain all the same, and no event of the log
        self._log_lines.append(log_line)
        if kind == "torn":
            self._excuse(offset, data.get("bytes"), data.get("sha256"))

    def _excuse(self, offset: int, length: object, digest: object) -> None:
        """Holds what `torn` says against the bytes before it, and the newline that closed them."""
        if not isinstance(length, int) or not 0 < length < offset:
            return
        start, end = offset - 1 - length, offset - 1
        if hashlib.sha256(self._data[start:end]).hexdigest() == digest:
            self._excused.append((start, end))
