"""Two processes of the service beside one, each on a core of its own.

The generator needs a core as well: on a machine with two, it takes its share (a few percent of what a
process of the service uses for each call) from the second process, and the figure is that much too low.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.asking import allow
from bench.cores import GENERATOR, SERVER
from bench.figure import Figure, at_least, medians
from bench.load import bear
from bench.processes import Variant, serving
from bench.progress import rounds
from bench.requests import tool_call
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World

ROUNDS: Final = 5
SECONDS: Final = 2.0
STREAMS: Final = 64
NAME: Final = "two_processes_vs_one"


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """The throughput of two processes over that of one, audit `written`."""
    request = tool_call("crm", world.sign_in("alice")).SerializeToString()
    async with AsyncExitStack() as stack:
        stack.enter_context(secret_files(world, folder / "secrets"))
        sockets = [
            await stack.enter_async_context(serving(Variant(name=name), world, folder, core))
            for name, core in (("first", SERVER), ("second", GENERATOR))
        ]
        for socket in sockets:
            await allow(socket, request)
        figures = medians([_round(sockets, request) for _ in rounds("scale", ROUNDS)])
    what = f"cached allows a second of two processes over one, {STREAMS} streams each"
    return [Figure(name=NAME, value=figures[NAME], what=what, target=at_least(1.7))]


def _round(sockets: Sequence[Path], request: bytes) -> dict[str, float]:
    one = bear(sockets[:1], request, streams=STREAMS, seconds=SECONDS)
    two = bear(sockets, request, streams=STREAMS, seconds=SECONDS)
    return {NAME: two.throughput / one.throughput}
