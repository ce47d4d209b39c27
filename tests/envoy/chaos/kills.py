"""SIGKILL of every replica under load: `python -m tests.envoy.chaos.kills [KILLS]` prints a table."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.envoy.chaos.audited import audited, kill, restarted, verified
from tests.envoy.chaos.both_sides import count
from tests.envoy.chaos.crowd import Crowd
from tests.envoy.chaos.gateway import Gateway
from tests.envoy.chaos.load import Caller

BEFORE: Final = 0.5  # seconds of load
LEVELS: Final = ("written", "synced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What one moment of killing left. `newly_heard`: calls that the MCP server heard since the last.

    `missing`: those of all that it ever heard without a record that allows them;
    `unrecorded_allows`: decisions of answered calls of which there is none.
    """

    processes: int
    newly_heard: int
    heard: int
    allowed: int
    missing: set[str]
    unrecorded_allows: set[str]


async def kill_under_load(gate: Gateway, callers: Sequence[Caller]) -> Killed:
    """Loads, kills all replicas at once, counts both sides, and has the replicas serve again."""
    before = len(gate.upstream.heard)
    crowd = Crowd(gate.url, callers)
    async with crowd.calling():
        await asyncio.sleep(BEFORE)
        await kill(gate.replicas)
    counted = count(gate)
    await restarted(gate.replicas)
    answered = {answer.decision_id for answer in crowd.answers if answer.status == 200}
    return Killed(
        processes=len(gate.replicas),
        newly_heard=counted.heard - before,
        heard=counted.heard,
        allowed=len(counted.allowed),
        missing=counted.missing,
        unrecorded_allows=answered - counted.allowed,
    )


async def _row(level: str, kills: int) -> str:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as audit:
        async with audited(Path(folder), Path(audit), {"one": level, "two": level}) as gate:
            users = await gate.warm_users()
            found: list[Killed] = []
            while sum(each.processes for each in found) < kills:
                found.append(await kill_under_load(gate, users))
            reports = [verified(replica, Path(folder)) for replica in gate.replicas]
    figures = (
        sum(each.processes for each in found),
        found[-1].heard,
        found[-1].allowed,
        len(set[str]().union(*(each.missing for each in found))),
        len(set[str]().union(*(each.unrecorded_allows for each in found))),
        sum(len(report.breaks) for report in reports),
    )
    return f"{level:8}" + "".join(f"{figure:>14}" for figure in figures)


def main(kills: int) -> None:
    columns = ("kills", "heard", "allows", "missing", "unrecorded", "chain breaks")
    sys.stdout.write("level   " + "".join(f"{column:>14}" for column in columns) + "\n")
    for level in LEVELS:
        sys.stdout.write(asyncio.run(_row(level, kills)) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20)
