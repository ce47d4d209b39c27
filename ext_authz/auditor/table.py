"""Rows for people: as wide as their terminal, and nothing in them that steers it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ext_authz.audit.canonical import shown
from ext_authz.auditor.joined import Row
from ext_authz.auditor.outcomes import CallOutcome

NARROWEST: Final = 120
_WHOLE_TIME: Final = 23
_CUT: Final = "~"


@dataclass(frozen=True, slots=True)
class _Column:
    """`least` characters at the narrowest; `share` of what a wider terminal has to give."""

    title: str
    least: int
    share: int = 0


_COLUMNS: Final = (
    _Column("TIME (UTC)", 14),
    _Column("VERDICT", 16, 3),
    _Column("USER", 14, 4),
    _Column("SERVER", 9, 2),
    _Column("CALL", 19, 5),
    _Column("MS", 6),
    _Column("OUT", 3),
    _Column("DECISION", 32),
)


class Table:
    """A table of so many columns of characters; None: nothing is cut, as where a program reads."""

    def __init__(self, width: int | None) -> None:
        spare = 0 if width is None else max(0, width - NARROWEST)
        shares = sum(column.share for column in _COLUMNS)
        self._widths = [column.least + spare * column.share // shares for column in _COLUMNS]
        self._cuts = width is not None
        if not self._cuts:
            self._widths[0] = _WHOLE_TIME

    def head(self) -> str:
        return self._line([column.title for column in _COLUMNS])

    def row(self, row: Row) -> str:
        """A decision and what became of it."""
        found = row.decision
        return self._line(
            [
                self._time(found.time),
                found.reason or found.verdict,
                found.subject,
                found.server,
                _call(found.mcp_method, found.mcp_target),
                f"{found.milliseconds:.1f}",
                _status(row.outcome),
                found.decision_id,
            ]
        )

    def outcome(self, found: CallOutcome) -> str:
        """What became of a call whose decision was shown before, or that had none."""
        return self._line(
            [
                self._time(found.time),
                "NO DECISION" if found.is_undecided else "outcome",
                None,
                found.upstream_cluster,
                found.response_code_details,
                "" if found.milliseconds is None else f"{found.milliseconds:.1f}",
                _status(found),
                found.decision_id,
            ]
        )

    def _time(self, time: str) -> str:
        """Month to second where it is narrow; whole where nothing is cut."""
        return f"{time[5:10]} {time[11:19]}" if self._cuts else time[:23]

    def _line(self, cells: Sequence[str | None]) -> str:
        fitted = [
            self._fitted(shown(str(cell or "-")), width)
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        return " ".join(fitted).rstrip()

    def _fitted(self, text: str, width: int) -> str:
        if self._cuts and len(text) > width:
            return text[: width - len(_CUT)] + _CUT
        return text.ljust(width)


def _call(method: str | None, target: str | None) -> str | None:
    """The tool alone where one is called: the method says nothing more."""
    if target is None:
        return method
    return target if method == "tools/call" else f"{method} {target}"


def _status(outcome: CallOutcome | None) -> str | None:
    if outcome is None:
        return None
    return str(outcome.status) if outcome.status is not None else "?"
