"""What audit and access log say of one decision."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from ext_authz.auditor.outcomes import CallOutcome, outcome_of
from ext_authz.demo.figures import json_lines
from ext_authz.demo.front import Front
from tests.doubles.audit_records import records_in

SECONDS: Final = 5  # Envoy writes its access log in batches
T = TypeVar("T")


def audit_record(front: Front, decision_id: str) -> dict[str, Any]:
    """The one record of the decision."""
    (record,) = (r for r in records_in(front.audit_file) if r["decision_id"] == decision_id)
    return record


def access_log_line(front: Front, decision_id: str) -> dict[str, Any]:
    """The one line of the decision, once Envoy has written it."""
    (line,) = _once_there(lambda: _lines_of(front.access_log, decision_id))
    return line


def outcome(front: Front, decision_id: str) -> CallOutcome:
    """The one outcome of the decision, once Envoy has told of it and we have recorded it."""
    (found,) = _once_there(
        lambda: [each for each in outcomes_in(front) if each.decision_id == decision_id]
    )
    return found


def undecided_outcome(front: Front, details: str) -> CallOutcome:
    """The one outcome with these details that belongs to no decision, once it is there."""
    (found,) = _once_there(
        lambda: [
            each
            for each in outcomes_in(front)
            if each.decision_id is None and each.response_code_details == details
        ]
    )
    return found


def outcomes_in(front: Front) -> list[CallOutcome]:
    """All that are there now."""
    return [outcome_of(event) for event in events_in(front, "outcome")]


def events_in(front: Front, kind: str) -> list[dict[str, Any]]:
    """The audit's events of one kind, as they are stored."""
    return [event for event in json_lines(front.audit_file) if event["unmapped"]["event"] == kind]


def _once_there(look: Callable[[], list[T]]) -> list[T]:
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "the log says nothing of it"
        time.sleep(0.05)
    return found


def _lines_of(log: Path, decision_id: str) -> list[dict[str, Any]]:
    lines = json_lines(log)
    return [line for line in lines if (line["authz"] or {}).get("decision_id") == decision_id]
