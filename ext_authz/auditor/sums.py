"""`audit stats`: who used what, what was denied and why, how long it took, and what is missing."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ext_authz.auditor.files import Data, Source
from ext_authz.auditor.log_files import opened_log
from ext_authz.auditor.parsed import parsed
from ext_authz.auditor.scan import lines_with, span_of, time_of
from ext_authz.auditor.typed import text, text_or_none

_PERCENTILES: Final = (50, 95, 99)
_DECISION: Final = b'"event":"decision"'
_CORRECTION: Final = b'"event":"correction"'
_OUTCOME: Final = b'"event":"outcome"'
_LOST: Final = b'"event":"lost"'
_UNSYNCED: Final = b'"event":"unsynced"'
_MOST_EXAMPLES: Final = 5

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Times in milliseconds since 1970; None: no bound. `outcome_ms`: how long an outcome may take."""

    since: int | None
    until: int | None
    now: int
    outcome_ms: int

    def includes(self, time: int) -> bool:
        return (self.since is None or time >= self.since) and (
            self.until is None or time < self.until
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """How often a user, a server or a tool was allowed and denied (or given up)."""

    name: str
    allowed: int
    denied: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """A call that reached a server without a decision."""

    time: str
    upstream_cluster: str | None
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Corrections are counted, not what they correct. Milliseconds by percentile (`p50`) and token source.

    `bypasses` are the first few of `bypassing_calls`; `lost_records` and `unsynced_records` are what the
    log says of itself: Checks that were denied and have no record, or one that the disk may not hold.
    `unreadable` lines name a kind and lack what it must have.
    """

    decisions: int
    first: str | None
    last: str | None
    verdicts: dict[str, int]
    reasons: dict[str, int]
    token_sources: dict[str, int]
    milliseconds: dict[str, dict[str, float]]
    users: tuple[Used, ...]
    servers: tuple[Used, ...]
    tools: tuple[Used, ...]
    statuses: dict[str, int]
    outcomes: int
    outcomes_missing: int
    bypassing_calls: int
    bypasses: tuple[Bypass, ...]
    lost_records: int
    unsynced_records: int
    unreadable: int


def stats(sources: Sequence[Source], asked: Asked) -> Stats:
    """The sums over all files; raises `BadInput`."""
    sums = _Sums(asked)
    for source in sources:
        with opened_log(source) as data:
            sums.corrections(data)
    for source in sources:
        with opened_log(source) as data:
            sums.add(data)
    return sums.result()


class _Sums:
    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._corrections: dict[str, Event] = {}
        self._first: str | None = None
        self._last: str | None = None
        self._verdicts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._times: dict[str, array[float]] = {"all": array("d")}
        self._used: dict[str, Counter[tuple[str, bool]]] = {
            kind: Counter() for kind in ("users", "servers", "tools")
        }
        self._statuses: Counter[str] = Counter()
        self._awaited: set[str] = set()
        self._ended: set[str] = set()
        self._outcomes = 0
        self._bypassing = 0
        self._bypasses: list[Bypass] = []
        self._lost = 0
        self._unsynced = 0
        self._unreadable = 0

    def corrections(self, data: Data) -> None:
        self._each(self._correction, _events(data, _CORRECTION))

    def add(self, data: Data) -> None:
        """One file's decisions and outcomes, and what the log says of itself."""
        start, end = span_of(data, self._asked.since, self._asked.until)
        self._each(self._decision, _events(data, _DECISION, start, end))
        self._each(self._outcome, _events(data, _OUTCOME, start))
        self._each(self._lost_ones, _events(data, _LOST))
        self._each(self._unsynced_ones, _events(data, _UNSYNCED))

    def _each(self, add: Callable[[Event], None], events: Iterable[Event]) -> None:
        """Adds events; one that lacks what its kind must have was not written by the service."""
        for event in events:
            try:
                add(event)
            except (KeyError, TypeError, AttributeError):
                self._unreadable += 1

    def _correction(self, event: Event) -> None:
        self._corrections[event["metadata"]["correlation_uid"]] = event

    def _lost_ones(self, event: Event) -> None:
        if self._asked.includes(event["time"]):
            self._lost += event["unmapped"]["log"]["lost"]["records"]

    def _unsynced_ones(self, event: Event) -> None:
        if self._asked.includes(event["time"]):
            span = event["unmapped"]["log"]["unsynced"]
            self._unsynced += span["last"] - span["first"] + 1

    def _decision(self, event: Event) -> None:
        identity = event["metadata"]["correlation_uid"]
        event = self._corrections.get(identity, event)
        if not self._asked.includes(event["time"]):
            return
        unmapped = event["unmapped"]
        verdict, time = text(unmapped["decision"]["verdict"]), text(event["time_dt"])
        self._verdicts[verdict] += 1
        self._first = min(self._first or time, time)
        self._last = max(self._last or time, time)
        if reason := text_or_none(event.get("status_code")):
            self._reasons[reason] += 1
        source = text_or_none(unmapped.get("exchange", {}).get("source"))
        self._time(source, unmapped["milliseconds"])
        is_allowed = verdict in {"allow", "document"}
        self._use(event, is_allowed=is_allowed)
        if verdict == "allow" and event["time"] < self._asked.now - self._asked.outcome_ms:
            self._awaited.add(identity)

    def _time(self, source: str | None, milliseconds: float) -> None:
        self._times["all"].append(milliseconds)
        if source is not None:
            self._sources[source] += 1
            self._times.setdefault(source, array("d")).append(milliseconds)

    def _use(self, event: Event, *, is_allowed: bool) -> None:
        user = event["actor"].get("user")
        server = text_or_none(event["api"].get("service", {}).get("name"))
        if user is not None:
            uid = text(user["uid"])
            name = f"{uid} {user['domain']}" if "domain" in user else uid
            self._used["users"][name, is_allowed] += 1
        if server is not None:
            self._used["servers"][server, is_allowed] += 1
        for resource in event.get("resources", ()):
            self._used["tools"][f"{server} {resource['name']}", is_allowed] += 1

    def _outcome(self, event: Event) -> None:
        said, identity = event["unmapped"]["outcome"], event["metadata"].get("correlation_uid")
        status = event.get("http_response", {}).get("code")
        if identity is not None:
            self._ended.add(identity)
        if not self._asked.includes(event["time"]):
            return
        self._outcomes += 1
        self._statuses[str(status) if status is not None else "none"] += 1
        if event.get("is_alert") is True:
            self._bypassing += 1
            if len(self._bypasses) < _MOST_EXAMPLES:
                time, cluster = text(event["time_dt"]), text_or_none(said.get("upstream_cluster"))
                self._bypasses.append(Bypass(time=time, upstream_cluster=cluster, status=status))

    def result(self) -> Stats:
        return Stats(
            decisions=self._verdicts.total(),
            first=self._first,
            last=self._last,
            verdicts=dict(self._verdicts.most_common()),
            reasons=dict(self._reasons.most_common()),
            token_sources=dict(self._sources.most_common()),
            milliseconds={
                name: _percentiles(times) for name, times in self._times.items() if times
            },
            users=_by_use(self._used["users"]),
            servers=_by_use(self._used["servers"]),
            tools=_by_use(self._used["tools"]),
            statuses=dict(self._statuses.most_common()),
            outcomes=self._outcomes,
            outcomes_missing=len(self._awaited - self._ended),
            bypassing_calls=self._bypassing,
            bypasses=tuple(self._bypasses),
            lost_records=self._lost,
            unsynced_records=self._unsynced,
            unreadable=self._unreadable,
        )


def _events(data: Data, kind: bytes, start: int = 0, end: int | None = None) -> Iterator[Event]:
    for _, line in lines_with(data, [kind], start, end):
        event = parsed(line) if time_of(line) is not None else None
        if event is not None:
            yield event


def _by_use(counted: Counter[tuple[str, bool]]) -> tuple[Used, ...]:
    """The most used first."""
    names = {name for name, _ in counted}
    used = [
        Used(name=each, allowed=counted[each, True], denied=counted[each, False]) for each in names
    ]
    return tuple(sorted(used, key=lambda each: (-each.allowed - each.denied, each.name)))


def _percentiles(times: "array[float]") -> dict[str, float]:
    ordered = sorted(times)
    last = len(ordered) - 1
    return {f"p{each}": round(ordered[round(last * each / 100)], 3) for each in _PERCENTILES}
