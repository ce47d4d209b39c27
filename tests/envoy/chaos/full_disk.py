"""The audit's disk becomes full under load, and has room again: what was seen of it.

`python -m tests.envoy.chaos.full_disk [KILLS [FOLDER]]` kills the replica each time, and prints a table.
FOLDER: a small file system that is mounted there and really becomes full; without it, a limit stands in.
"""

import asyncio
import contextlib
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.envoy.chaos.audited import audited, kill, verified
from tests.envoy.chaos.both_sides import Counted, Event, chained, count, data_of
from tests.envoy.chaos.crowd import Crowd
from tests.envoy.chaos.gateway import Gateway, Replica, until
from tests.envoy.chaos.load import Answered, Caller

LOAD_SECONDS: Final = 0.7
SETTLING_SECONDS: Final = 0.4  # until what was under way when the disk became full is through
FULL_SECONDS: Final = 1.0
RECOVERY_SECONDS: Final = 15
HALF_A_RECORD: Final = 400  # bytes
BLOCK: Final = b"\0" * 65536
LEVELS: Final = ("written", "synced")


class Disk(Protocol):
    """Where the audit file of a replica stands."""

    def fill(self, replica: Replica) -> None:
        """Takes all room, or nearly."""

    def free(self, replica: Replica) -> None:
        """Gives it back."""


class Limited:
    """RLIMIT_FSIZE of the running process: needs no root, and no disk of its own."""

    def fill(self, replica: Replica) -> None:
        _, most = resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE)
        limit = (replica.audit_file.stat().st_size + HALF_A_RECORD, most)
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, limit)

    def free(self, replica: Replica) -> None:
        _, most = resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (most, most))


class Small:
    """A file system of its own, mounted at `folder`: somebody else's file takes its room."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "of-somebody-else"

    def fill(self, replica: Replica) -> None:
        del replica
        with self._file.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(BLOCK):
                pass

    def free(self, replica: Replica) -> None:
        del replica
        self._file.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Borne:
    """What was seen.

    `answers` are those given while the disk was full, and `arrived` counts the calls that reached the
    MCP server meanwhile. `unavailable` counts, over the whole time, who was told that the audit was;
    `events` are all records.
    """

    answers: Sequence[Answered]
    arrived: int
    unavailable: int
    counted: Counted
    unrecorded_allows: set[str]
    events: Sequence[Event]

    @property
    def lost(self) -> Sequence[Event]:
        """What the log says of Checks that left no record."""
        return data_of("lost", self.events)


async def full_under_load(
    gate: Gateway, callers: Sequence[Caller], disk: Disk, *, is_killed: bool
) -> Borne:
    """Fills `disk` under load and gives room again; `is_killed`: the replica dies and starts meanwhile."""
    (replica,) = gate.replicas
    crowd = Crowd(gate.url, callers)
    async with crowd.calling():
        await asyncio.sleep(LOAD_SECONDS)
        disk.fill(replica)
        if is_killed:
            await kill([replica])
            await replica.start()
            disk.fill(replica)
        await asyncio.sleep(SETTLING_SECONDS)
        began, heard = crowd.now(), len(gate.upstream.heard)
        await asyncio.sleep(FULL_SECONDS)
        ended, arrived = crowd.now(), len(gate.upstream.heard) - heard
        disk.free(replica)

        async def serves_again() -> bool:
            return any(one.status == 200 for one in crowd.answers if one.at > ended)

        await until(serves_again, RECOVERY_SECONDS)
        await asyncio.sleep(LOAD_SECONDS)
    counted = count(gate)
    allows = {answer.decision_id for answer in crowd.answers if answer.status == 200}
    return Borne(
        answers=crowd.between(began, ended),
        arrived=arrived,
        unavailable=sum(one.reason == "audit_unavailable" for one in crowd.answers),
        counted=counted,
        unrecorded_allows=allows - counted.allowed,
        events=chained(replica.audit_file),
    )


async def _row(level: str, kills: int, small: Path | None) -> str:
    disk = Limited() if small is None else Small(small)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=small) as audit:
        async with audited(Path(folder), Path(audit), {"one": level}) as gate:
            users = await gate.warm_users()
            found = [await full_under_load(gate, users, disk, is_killed=True) for _ in range(kills)]
            report = verified(gate.replicas[0], Path(folder))
    figures = (
        len(found),
        found[-1].counted.heard,
        len(found[-1].counted.allowed),
        len(set[str]().union(*(each.counted.missing for each in found))),
        len(set[str]().union(*(each.unrecorded_allows for each in found))),
        sum(len(each.answers) for each in found),
        sum(each.arrived for each in found),
        len(report.breaks),
    )
    return f"{level:8}" + "".join(f"{figure:>14}" for figure in figures)


def main(kills: int, small: Path | None) -> None:
    columns = (
        "kills",
        "heard",
        "allows",
        "missing",
        "unrecorded",
        "while full",
        "got in",
        "breaks",
    )
    sys.stdout.write("level   " + "".join(f"{column:>14}" for column in columns) + "\n")
    for level in LEVELS:
        sys.stdout.write(asyncio.run(_row(level, kills, small)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20, Path(sys.argv[2]) if sys.argv[2:] else None)
