"""`python -m bench`: prints the figures and writes them to bench/results.json."""

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import uvloop

from bench import audit
from bench.load import METHOD, Ask, Borne, bear
from bench.requests import tool_call
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.demo.front import process, service
from ext_authz.demo.world import World

ROUNDS: Final = 5
SECONDS: Final = 2.0
STREAMS: Final = 64
BURST: Final = 200
RESULTS: Final = Path(__file__).parent / "results.json"
WHAT: Final = {
    "hot_throughput_vs_floor": f"cached allows a second over the floor's answers, {STREAMS} streams",
    "hot_p50_vs_floor": "time of a cached allow over the floor's, 1 stream",
    "burst_leg1": f"ID-JAGs that {BURST} simultaneous first calls of one user cost",
    "burst_leg2": "redemptions that they cost",
    **audit.WHAT,
}


async def measure() -> Mapping[str, float]:
    """All figures of one run: medians of several rounds, service and floor in turn."""
    with World.in_thread() as world, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = tool_call("crm", world.sign_in("alice")).SerializeToString()
        async with service(world, folder) as socket:
            answer = await _burst(socket, request)
            counts = world.counts()
            async with _floor(folder, answer) as floor:
                ratios = [await _round(socket, floor, request) for _ in range(ROUNDS)]
        (folder / "audit").mkdir()
        return {
            **await audit.measure(world, folder / "audit"),
            "hot_throughput_vs_floor": statistics.median(ratio for ratio, _ in ratios),
            "hot_p50_vs_floor": statistics.median(ratio for _, ratio in ratios),
            "burst_leg1": counts.leg1,
            "burst_leg2": sum(counts.leg2.values()),
        }


async def _burst(socket: Path, request: bytes) -> bytes:
    """So many first calls at once; gives one of the answers, all of which must be allows."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        ask: Ask = channel.unary_unary(METHOD)
        answers = await asyncio.gather(*(ask(request) for _ in range(BURST)))
    if not all(CheckResponse.FromString(answer).HasField("ok_response") for answer in answers):
        raise RuntimeError("a call of the burst was denied")
    return bytes(answers[0])


@asynccontextmanager
async def _floor(folder: Path, answer: bytes) -> AsyncIterator[Path]:
    socket, file = folder / "floor.sock", folder / "answer"
    file.write_bytes(answer)
    command = [sys.executable, "-m", "bench.floor", str(socket), str(file)]
    async with process("floor", command, folder):
        yield socket


async def _round(ours: Path, floor: Path, request: bytes) -> tuple[float, float]:
    """Throughput and p50, ours over the floor's."""
    many = [await _bear(socket, request, STREAMS) for socket in (ours, floor)]
    one = [await _bear(socket, request, 1) for socket in (ours, floor)]
    print(".", end="", file=sys.stderr, flush=True)
    return many[0].throughput / many[1].throughput, one[0].p50 / one[1].p50


async def _bear(socket: Path, request: bytes, streams: int) -> Borne:
    return await bear(str(socket), request, streams=streams, seconds=SECONDS)


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure())
    print(file=sys.stderr)
    for name, what in WHAT.items():
        print(f"{name:<34} {figures[name]:9.3f}  {what}")
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
