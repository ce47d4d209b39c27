"""What the log says of itself, in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ext_authz.audit.canonical import shown
from ext_authz.auditor.findings import Fact
from ext_authz.auditor.walk import LogLine


def facts_of(log_lines: Sequence[tuple[str, LogLine]]) -> Iterable[Fact]:
    """The facts among the log's own events; checkpoints are none."""
    for file, each in log_lines:
        sentence = _sentence(each.kind, each.data)
        if sentence is not None:
            yield Fact(
                kind=each.kind,
                file=file,
                line=each.line + 1,
                chain=each.link.chain_uid,
                sequence=each.link.sequence,
                sentence=sentence,
            )


def _sentence(kind: str, data: Mapping[str, Any]) -> str | None:
    said = {name: shown(str(value)) for name, value in data.items()}
    match kind:
        case "opened":
            behind = f", behind {said['previous']}" if "previous" in said else ""
            return f"the service opened the file ({said.get('cause')}{behind})."
        case "torn":
            return f"a crash or a full disk left {said.get('bytes')} bytes that are no record before it."
        case "truncated":
            return f"somebody cut the file to nothing; {said.get('bytes')} bytes had stood in it."
        case "lost":
            many, since = said.get("records"), _moment(data.get("since"))
            return f"{many} Checks since {since} were denied and left no record of their own."
        case "unsynced":
            span = f"{said.get('first')} to {said.get('last')}"
            return f"the disk did not confirm records {span}; their callers were denied."
        case _:
            return None


def _moment(milliseconds: object) -> str:
    try:
        moment = datetime.fromtimestamp(float(str(milliseconds)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
    return moment.isoformat(timespec="milliseconds")
