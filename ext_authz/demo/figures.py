"""The demo's figures, each counted by somebody else: Envoy, the audit log, the MCP servers."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ext_authz.auditor.decisions import read_decisions
from ext_authz.demo.front import Front
from ext_authz.demo.world import World

LOG_SECONDS: Final = 5  # Envoy writes its access log in batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`calls`, `allowed` and `denied` are Envoy's; `leg1` and `leg2` the providers' own counts."""

    calls: int
    allowed: int
    denied: int
    audit_records: int
    audit_file: str
    user_tokens_seen_upstream: int
    leg1: int
    leg2: int


async def figures_of(world: World, front: Front) -> Figures:
    """What the run came to, once Envoy has logged every call that the audit knows of."""
    decisions = read_decisions(front.audit_file)
    verdicts = await _logged_verdicts(front.access_log, len(decisions))
    counts = world.counts()
    return Figures(
        calls=len(verdicts),
        allowed=verdicts.count("allow"),
        denied=verdicts.count("deny"),
        audit_records=len(decisions),
        audit_file=str(front.audit_file),
        user_tokens_seen_upstream=world.user_tokens_seen(),
        leg1=counts.leg1,
        leg2=sum(counts.leg2.values()),
    )


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file with one on each line; a line still being written is left out."""
    text = file.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


async def _logged_verdicts(access_log: Path, expected: int) -> Sequence[str]:
    for _ in range(LOG_SECONDS * 10):
        authz = [line.get("authz") or {} for line in json_lines(access_log)]
        verdicts = [str(each["verdict"]) for each in authz if "verdict" in each]
        if len(verdicts) >= expected:
            break
        await asyncio.sleep(0.1)
    return verdicts
