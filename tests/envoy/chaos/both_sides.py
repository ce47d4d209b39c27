"""Both sides of the audit, to be counted: what the MCP server heard, and what is on record."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ext_authz.audit.chain import BEGINNING, Link, NotLinked, unlink
from tests.envoy.chaos.gateway import Gateway
from tests.envoy.recorder import Heard

REQUEST_ID = "x-request-id"  # given by Envoy; the record has it too
Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Of one moment. `missing` are the request ids that the server heard and no record allows.

    `allowed` are the decisions to allow that are on record, and that nothing corrects.
    """

    heard: int
    allowed: set[str]
    missing: set[str]


def count(gate: Gateway) -> Counted:
    """Counts both sides, whether or not anything is under way; each file must hold one chain."""
    heard = [_request_id(each) for each in list(gate.upstream.heard)]  # before the records are read
    events = [event for replica in gate.replicas for event in chained(replica.audit_file)]
    corrected = {_decision_id(event) for event in events if _kind(event) == "correction"}
    allowed = [
        event for event in events if _is_allow(event) and _decision_id(event) not in corrected
    ]
    assert len(set(heard)) == len(heard), "the server heard a call twice"
    return Counted(
        heard=len(heard),
        allowed={_decision_id(event) for event in allowed},
        missing=set(heard) - {str(event["http_request"]["uid"]) for event in allowed},
    )


def chained(file: Path) -> list[Event]:
    """Its records, checked by hand: each follows the one before, and what is torn is named behind it.

    What a killed process left behind the last newline is no record yet.
    """
    *lines, _rest = file.read_bytes().split(b"\n")
    events: list[Event] = []
    before: Link | None = None
    torn: list[bytes] = []
    for line in lines:
        try:
            link = unlink(line)
        except NotLinked:
            torn.append(line)
            continue
        assert link.is_intact, f"{file}: record {link.sequence} was altered"
        _assert_follows(link, before)
        before = link
        events.append(orjson.loads(line))
        if torn:
            _assert_named(events[-1], b"\n".join(torn))
            torn.clear()
    return events


def data_of(kind: str, events: Iterable[Event]) -> list[Any]:
    """What the log's own events of that kind say."""
    return [event["unmapped"]["log"][kind] for event in events if _kind(event) == kind]


def _assert_follows(link: Link, before: Link | None) -> None:
    if before is None:
        assert (link.sequence, link.previous) == (0, BEGINNING)
    else:
        expected = (before.chain_uid, before.sequence + 1, before.fingerprint)
        assert (link.chain_uid, link.sequence, link.previous) == expected


def _assert_named(event: Event, torn: bytes) -> None:
    (data,) = data_of("torn", [event])
    assert data == {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}


def _is_allow(event: Event) -> bool:
    is_decision = _kind(event) == "decision"
    return is_decision and event["unmapped"]["decision"]["verdict"] == "allow"


def _kind(event: Event) -> str:
    return str(event["unmapped"]["event"])


def _decision_id(event: Event) -> str:
    return str(event["metadata"]["correlation_uid"])


def _request_id(heard: Heard) -> str:
    (found,) = heard.headers[REQUEST_ID]
    return found
