"""Decisions with what corrects them and what became of the call, out of all files, by time."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

import orjson

from ext_authz.auditor.decisions import Decision, decision_of
from ext_authz.auditor.files import Data, Source
from ext_authz.auditor.log_files import opened_log
from ext_authz.auditor.outcomes import CallOutcome, outcome_of
from ext_authz.auditor.scan import line_at, lines_of, lines_with, span_of, time_of
from ext_authz.auditor.wanted import Wanted

_DECISION: Final = b'"log_name":"decision"'
_DECIDED: Final = re.compile(
    rb'"correlation_uid":"([^"]{1,200})","log_name":"(?:decision|correction)"'
)
_LATER: Final = re.compile(
    rb'"correlation_uid":"([^"]{1,200})","log_name":"(?:correction|outcome)"'
)
_Spot: TypeAlias = tuple[int, int, int]  # the time of a line, its file, and where it begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A decision as it stands in the end, and the stored lines that say so."""

    decision: Decision
    outcome: CallOutcome | None
    lines: tuple[bytes, ...]


class Logs:
    """Files that are read as one, of one replica or of several."""

    def __init__(self, data: Sequence[Data]) -> None:
        self._data = data

    @property
    def ends(self) -> list[int]:
        """Up to where each file is read: behind its last newline."""
        return [data.rfind(b"\n") + 1 for data in self._data]

    def rows(self, wanted: Wanted, *, newest: int | None = None) -> Iterator[Row]:
        """What is wanted, by time; `newest`: only so many, the last ones."""
        spots = sorted(self._hits(wanted).items(), key=itemgetter(1))
        if newest is not None and not wanted.hangs_on_what_comes_later:
            spots = spots[-newest:]
        later = self._later(dict(spots))
        if newest is None:
            yield from self._rows(spots, later, wanted)
            return
        rows = self._rows(reversed(spots), later, wanted)
        last = [row for row, _ in zip(rows, range(newest), strict=False)]
        yield from reversed(last)

    def _hits(self, wanted: Wanted) -> dict[bytes, _Spot]:
        """The decisions, or corrections, that match, by their id."""
        needles = wanted.needles() or [_DECISION]
        hits: dict[bytes, _Spot] = {}
        for index, data in enumerate(self._data):
            start, end = span_of(data, wanted.since, wanted.until)
            for offset, line in lines_with(data, needles, start, end):
                if found := _DECIDED.search(line):
                    hits.setdefault(found[1], (time_of(line) or 0, index, offset))
        return hits

    def _later(self, hits: dict[bytes, _Spot]) -> dict[bytes, list[tuple[int, int]]]:
        """Corrections and outcomes by decision; the newest last. They stand behind what they belong to."""
        found: dict[bytes, list[tuple[int, int]]] = {}
        if not hits:
            return found
        earliest = min(time for time, *_ in hits.values())
        for index, data in enumerate(self._data):
            begin, _ = span_of(data, earliest, None)
            for identity, offset in lines_of(data, _LATER, hits, begin):
                found.setdefault(identity, []).append((index, offset))
        return found

    def _rows(
        self,
        spots: Iterator[tuple[bytes, _Spot]] | list[tuple[bytes, _Spot]],
        later: dict[bytes, list[tuple[int, int]]],
        wanted: Wanted,
    ) -> Iterator[Row]:
        for identity, spot in spots:
            places = dict.fromkeys([spot[1:], *later.get(identity, [])])
            row = row_of([line_at(self._data[file], offset) for file, offset in places])
            if row is not None and is_wanted(row, wanted):
                yield row


def is_wanted(row: Row, wanted: Wanted) -> bool:
    """As `Wanted` says, of the decision as it stands in the end."""
    return wanted.accepts(row.decision) and wanted.accepts_outcome(row.outcome)


def row_of(lines: Sequence[bytes]) -> Row | None:
    """A decision from its lines, the newest last; None where none of them holds a readable one.

    A line that cannot be read takes nothing away: whoever wrote it must not hide what others say.
    """
    decision: Decision | None = None
    outcome: CallOutcome | None = None
    for line in lines:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            event = orjson.loads(line)
            if event["unmapped"]["event"] == "outcome":
                outcome = outcome_of(event)
            else:
                decision = decision_of(event)
    return None if decision is None else Row(decision=decision, outcome=outcome, lines=(*lines,))


@contextlib.contextmanager
def logs(sources: Sequence[Source]) -> Iterator[Logs]:
    """The files, open; raises `BadInput`."""
    with contextlib.ExitStack() as stack:
        yield Logs([stack.enter_context(opened_log(source)) for source in sources])
