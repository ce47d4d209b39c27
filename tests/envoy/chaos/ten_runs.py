"""Each loss of a replica ten times: `python -m tests.envoy.chaos.ten_runs [RUNS]` prints a table."""

import asyncio
import sys
import tempfile
from http import HTTPStatus
from pathlib import Path
from signal import Signals

from ext_authz.demo.figures import json_lines
from tests.envoy.chaos.gateway import Gateway, gateway
from tests.envoy.chaos.load import Borne
from tests.envoy.chaos.losses import SIGNALS, lose_under_load


async def _runs(how: Signals, runs: int) -> list[Borne]:
    """One after the other: a replica may go again before Envoy has forgotten the last time."""
    with tempfile.TemporaryDirectory() as folder:
        async with gateway(Path(folder)) as gate:
            return [await _run(gate, how) for _ in range(runs)]


async def _run(gate: Gateway, how: Signals) -> Borne:
    gate.upstream.heard.clear()
    borne = await lose_under_load(gate, how, before=1, away=3, after=1)
    for error in borne.errors:
        _say(f"  {how.name} at {error.at:.2f} s: {error.status} {error.reason}")
    for line in json_lines(gate.access_log) if borne.errors else ():
        if line["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _say(f"  {how.name} {line['time']} {line['flags']} {line['details']}")
    return borne


def _row(how: Signals, runs: list[Borne]) -> str:
    figures = (
        len(runs),
        sum(len(run.answers) for run in runs),
        sum(len(run.errors) for run in runs),
        sum(len(run.wrong_allows) for run in runs),
    )
    slowest = max(run.slowest for run in runs)
    return f"{how.name:8}" + "".join(f"{figure:>14}" for figure in figures) + f"{slowest:>12.2f} s"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(runs: int) -> None:
    columns = ("runs", "requests", "errors", "wrong allows")
    _say("case    " + "".join(f"{column:>14}" for column in columns) + f"{'slowest':>14}")
    for how in SIGNALS:
        _say(_row(how, asyncio.run(_runs(how, runs))))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
