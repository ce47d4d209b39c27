"""What audit and access log say of one decision."""

import time
from pathlib import Path
from typing import Any, Final

from ext_authz.demo.figures import json_lines
from ext_authz.demo.front import Front

SECONDS: Final = 5  # Envoy writes its access log in batches


def audit_record(front: Front, decision_id: str) -> dict[str, Any]:
    """The one record of the decision."""
    (record,) = (r for r in json_lines(front.audit_file) if r["decision_id"] == decision_id)
    return record


def access_log_line(front: Front, decision_id: str) -> dict[str, Any]:
    """The one line of the decision, once Envoy has written it."""
    deadline = time.monotonic() + SECONDS
    while not (lines := _lines_of(front.access_log, decision_id)):
        assert time.monotonic() < deadline, "Envoy logged no such decision"
        time.sleep(0.05)
    (line,) = lines
    return line


def _lines_of(log: Path, decision_id: str) -> list[dict[str, Any]]:
    lines = json_lines(log)
    return [line for line in lines if (line["authz"] or {}).get("decision_id") == decision_id]
