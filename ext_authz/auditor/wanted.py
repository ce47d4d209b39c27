"""What somebody asks for, as needles for the search and as a test of what it finds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from ext_authz.audit.canonical import shown
from ext_authz.auditor.decisions import Decision
from ext_authz.auditor.files import BadInput
from ext_authz.auditor.outcomes import CallOutcome

_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OUTCOME: Final = re.compile(r"[1-5](\d\d|xx)")
_WORDS: Final = frozenset({"missing", "reached", "unreached"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """None: anything. `since` and `until` are in milliseconds since 1970; `decision` may be a beginning.

    `outcome` is a status (`404`), a class of them (`5xx`), `missing`, `reached` or `unreached`.
    """

    user: str | None = None
    server: str | None = None
    tool: str | None = None
    reason: str | None = None
    verdict: str | None = None
    decision: str | None = None
    fingerprint: str | None = None
    outcome: str | None = None
    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        """Raises `BadInput`."""
        known = self.outcome is None or self.outcome in _WORDS or _OUTCOME.fullmatch(self.outcome)
        if not known:
            words = ", ".join(sorted(_WORDS))
            raise BadInput(f"--outcome {self.outcome}: is no outcome. Use 404, 5xx, {words}.")

    @property
    def hangs_on_what_comes_later(self) -> bool:
        """Whether a correction or an outcome may decide if a decision is wanted."""
        return any(each is not None for each in (self.outcome, self.verdict, self.reason))

    def needles(self) -> list[bytes]:
        """What each line that is asked for holds; the rarest first."""
        return list(self._needles())

    def _needles(self) -> Iterable[bytes]:
        if self.decision is not None:
            yield b'"correlation_uid":' + _text(self.decision)[:-1]
        if self.fingerprint is not None:
            yield _text(self.fingerprint)[:-1]
        if self.user is not None:
            yield b'"uid":' + _text(self.user)
        if self.reason is not None:
            yield b'"status_code":' + _text(self.reason)
        if self.tool is not None:
            yield b'"name":' + _text(self.tool)
        if self.server is not None:
            yield b'"name":' + _text(self.server)
        if self.verdict is not None:
            yield b'"verdict":' + _text(self.verdict)

    def accepts(self, found: Decision) -> bool:
        """Whether a decision is one of those that are asked for."""
        return (
            self._is_at(found.time_ms)
            and _is(self.user, found.subject)
            and _is(self.server, found.server)
            and _is(self.tool, found.mcp_target)
            and _is(self.reason, found.reason)
            and _is(self.verdict, found.verdict)
            and (self.decision is None or found.decision_id.startswith(self.decision))
            and self._has_fingerprint(found)
        )

    def _is_at(self, time: int) -> bool:
        return (self.since is None or time >= self.since) and (
            self.until is None or time < self.until
        )

    def _has_fingerprint(self, found: Decision) -> bool:
        beginning = self.fingerprint
        return beginning is None or any(
            each.startswith(beginning) for each in found.fingerprints.values()
        )

    def accepts_outcome(self, found: CallOutcome | None) -> bool:
        """Whether it became of the call what is asked for."""
        match self.outcome:
            case None:
                return True
            case "missing":
                return found is None
            case "reached" | "unreached":
                return found is not None and found.reached_server is (self.outcome == "reached")
            case status:
                digits = str(found.status) if found is not None else ""
                return digits == status or (status.endswith("xx") and digits[:1] == status[0])


def moment(text: str, now: float) -> int:
    """A time in milliseconds since 1970: RFC 3339, or `15m`, `2h`, `3d` before `now`; raises `BadInput`."""
    if ago := _AGO.fullmatch(text):
        back = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return int((now - back.total_seconds()) * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        example = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        raise BadInput(f"{text}: is no time. Use RFC 3339 ({example}), or 15m, 2h, 3d.") from None
    in_utc = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return int(in_utc.timestamp() * 1000)


def _is(wanted: str | None, found: str | None) -> bool:
    return wanted is None or (found is not None and shown(wanted) == found)


def _text(value: str) -> bytes:
    """As it stands in a line: escaped by `shown`, then as JSON."""
    return orjson.dumps(shown(value))
