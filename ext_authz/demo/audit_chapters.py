"""The chapters of the demo's story that an auditor would read."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ext_authz.audit.checkpoint import read_public_key
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.findings import Kind, Report
from ext_authz.auditor.joined import Row, logs
from ext_authz.auditor.verify import verify
from ext_authz.auditor.wanted import Wanted
from ext_authz.demo.figures import LOG_SECONDS, Figures
from ext_authz.demo.front import Front
from ext_authz.demo.narrator import Narrator

_COLUMNS: Final = ("subject", "server", "mcp_method", "mcp_target", "token_source")


async def what_the_audit_says(narrator: Narrator, front: Front, figures: Figures) -> None:
    narrator.chapter("What the audit says: one record for each call, and what became of it.")
    rows = await _rows(front.audit_file)
    narrator.table(
        ("time", "verdict", *_COLUMNS, "answered"),
        [
            (
                row.decision.time[11:23],
                row.decision.reason or row.decision.verdict,
                *(str(getattr(row.decision, column) or "-") for column in _COLUMNS),
                str(row.outcome.status) if row.outcome else "-",
            )
            for row in rows
        ],
    )
    narrator.expect(
        f"Envoy logged {figures.calls} calls, the audit {figures.audit_records}",
        holds=figures.calls == figures.audit_records == figures.allowed + figures.denied,
    )
    allowed = [row for row in rows if row.decision.verdict == "allow"]
    told = [row for row in allowed if row.outcome and row.outcome.reached_server]
    narrator.expect(
        f"of {len(allowed)} allowed calls, the audit knows of {len(told)} what the server answered",
        holds=len(allowed) == len(told),
    )


def what_an_auditor_can_tell(narrator: Narrator, front: Front) -> None:
    narrator.chapter("What an auditor can tell: nothing was altered, and what is altered is found.")
    report = _verified(front, front.audit_file)
    (chain,) = report.chains
    narrator.expect(
        f"the log is intact: {report.records} records, the last signature stands behind record"
        f" {chain.signed_to}",
        holds=report.is_intact and chain.signed_to is not None,
    )
    copy = front.folder / "tampered.jsonl"
    copy.write_text(front.audit_file.read_text().replace("00u-bob", "00u-eve", 1))
    _expect_break(
        narrator, "one user's name replaced in a copy", _verified(front, copy), Kind.FLIPPED
    )
    lines = front.audit_file.read_bytes().splitlines(keepends=True)
    copy.write_bytes(b"".join(lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :]))
    _expect_break(narrator, "one record taken out", _verified(front, copy), Kind.DROPPED)
    copy.unlink()


async def _rows(audit_file: Path) -> Sequence[Row]:
    """All decisions, once Envoy has told of each allowed one, or has had its time."""
    for _ in range(LOG_SECONDS * 10):
        with logs(find_sources([str(audit_file)])) as found:
            rows = list(found.rows(Wanted()))
        if all(row.outcome for row in rows if row.decision.verdict == "allow"):
            break
        await asyncio.sleep(0.1)
    return rows


def _verified(front: Front, file: Path) -> Report:
    key = read_public_key(front.audit_public_key.read_bytes())
    return verify(find_sources([str(file)]), keys=[key], workers=1)


def _expect_break(narrator: Narrator, deed: str, report: Report, kind: Kind) -> None:
    found = report.breaks[0] if report.breaks else None
    where = f"{found.kind} in line {found.line}" if found else "not found"
    narrator.expect(f"{deed}: {where}", holds=found is not None and found.kind is kind)
