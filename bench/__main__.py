"""`python -m bench [PART ...]`: measures, and prints a table.

A run of all parts also writes bench/results.json and bench/chart.svg.
"""

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import uvloop

from bench import cold, envoy, growth, hot, month, scale
from bench.chart import write_chart
from bench.cores import GENERATOR, pinned
from bench.figure import Figure
from bench.progress import told
from bench.report import table, write_results
from ext_authz.demo.world import World
from ext_authz.log import configure_logs

Measure = Callable[[World, Path], Awaitable[Sequence[Figure]]]
PARTS: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "hot": hot.measure,
        "envoy": envoy.measure,
        "cold": cold.measure,
        "scale": scale.measure,
        "growth": growth.measure,
        "month": month.measure,
    }
)


async def measure(parts: Sequence[str]) -> Sequence[Figure]:
    """The figures of these parts, each in a world and a folder of its own."""
    figures: list[Figure] = []
    for part in parts:
        with World.in_thread() as world, tempfile.TemporaryDirectory() as folder, told(part):
            figures += await PARTS[part](world, Path(folder))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"all by default: {', '.join(PARTS)}")
    parts: Sequence[str] = parser.parse_args().part or tuple(PARTS)
    if not set(parts) <= set(PARTS):
        parser.error(f"the parts are: {', '.join(PARTS)}")
    configure_logs(logging.WARNING)
    with pinned(GENERATOR), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(parts))
    print(table(figures))
    if set(parts) == set(PARTS):
        write_results(figures)
        write_chart(figures)


if __name__ == "__main__":
    main()
