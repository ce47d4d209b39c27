"""`audit show`: decisions and what became of the calls."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from ext_authz.auditor.decisions import DECISIONS, StoredEvent
from ext_authz.auditor.files import Source
from ext_authz.auditor.follow import Tail
from ext_authz.auditor.joined import Row, is_wanted, logs, row_of
from ext_authz.auditor.outcomes import CallOutcome, outcome_of
from ext_authz.auditor.parsed import parsed
from ext_authz.auditor.table import Table
from ext_authz.auditor.wanted import Wanted

_POLL_SECONDS: Final = 0.25
_REMEMBERED: Final = 100_000  # shown decisions whose outcome is awaited


class Form(Protocol):
    """How what is found is printed."""

    def head(self) -> Iterable[str]: ...

    def row(self, row: Row) -> Iterable[str]: ...

    def outcome(self, found: CallOutcome, line: bytes) -> Iterable[str]: ...


class AsTable:
    """For people."""

    def __init__(self, width: int | None) -> None:
        self._table = Table(width)

    def head(self) -> Iterable[str]:
        yield self._table.head()

    def row(self, row: Row) -> Iterable[str]:
        yield self._table.row(row)

    def outcome(self, found: CallOutcome, line: bytes) -> Iterable[str]:
        del line
        yield self._table.outcome(found)


class AsStored:
    """The stored lines, unchanged: each decision, and behind it what belongs to it."""

    def head(self) -> Iterable[str]:
        return ()

    def row(self, row: Row) -> Iterable[str]:
        for line in row.lines:
            yield line.decode(errors="backslashreplace")

    def outcome(self, found: CallOutcome, line: bytes) -> Iterable[str]:
        del found
        yield line.decode(errors="backslashreplace")


def show(
    sources: Sequence[Source], wanted: Wanted, form: Form, *, limit: int | None, follow: bool
) -> Iterator[str | None]:
    """The lines to print; with `follow` they never end, and None stands where nothing is new for now.

    `limit`: only the newest. Raises `BadInput`.
    """
    with logs(sources) as found:
        yield from form.head()
        for row in found.rows(wanted, newest=limit):
            yield from form.row(row)
        ends = found.ends
    if follow:
        tails = [
            Tail(source.path, end, source.inode) for source, end in zip(sources, ends, strict=True)
        ]
        yield from _following(tails, wanted, form)


def _following(tails: Sequence[Tail], wanted: Wanted, form: Form) -> Iterator[str | None]:
    shown: dict[str, None] = {}
    while True:
        for tail in tails:
            for line in tail.lines():
                yield from _new(line, wanted, form, shown)
        yield None
        time.sleep(_POLL_SECONDS)


def _new(line: bytes, wanted: Wanted, form: Form, shown: dict[str, None]) -> Iterable[str]:
    """What a new line adds: a decision, or the outcome of one that was shown, or of a call without one."""
    event = parsed(line)
    kind = event["unmapped"]["event"] if event else None
    if event and kind == "outcome":
        found = _outcome(event)
        if found is None:
            return
        if found.is_undecided or found.decision_id in shown:
            shown.pop(found.decision_id or "", None)
            yield from form.outcome(found, line)
        return
    row = row_of([line]) if kind in DECISIONS else None
    if row is not None and is_wanted(row, wanted):
        shown[row.decision.decision_id] = None
        if len(shown) > _REMEMBERED:
            del shown[next(iter(shown))]
        yield from form.row(row)


def _outcome(event: StoredEvent) -> CallOutcome | None:
    """None where it lacks what an outcome must have: then the service did not write it."""
    try:
        return outcome_of(event)
    except (KeyError, TypeError, AttributeError):
        return None
