"""A cached allow, beside the least that a Python gRPC server can do.

The floor is a bare grpc.aio handler on uvloop that gives every Check the same bytes, as many as our own
answer. All servers are up at once on one core and are asked in turn; the generator has another core, and
takes a few microseconds a call. So `hot_throughput_vs_floor` is what share of the floor's answers a second
is left once each of them is decoded, verified, decided, recorded and encoded, and `hot_p50_vs_floor` how
much longer one caller waits for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.asking import allow
from bench.figure import Figure, Target, at_least, at_most, medians
from bench.load import Borne, bear
from bench.processes import Variant, floor, serving
from bench.progress import rounds
from bench.requests import tool_call
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World

ROUNDS: Final = 7
SECONDS: Final = 1.0
STREAMS: Final = 64
FLOOR: Final = "floor"
OFF: Final = "audit_off"
WRITTEN: Final = "written"
SYNCED: Final = "synced"
VARIANTS: Final = (
    Variant(name=OFF, module="bench.unaudited"),
    Variant(name=WRITTEN),
    Variant(name=SYNCED, audit={"durability": "synced"}),
)
_MANY: Final = f"cached allows a second over the floor's answers, {STREAMS} streams"
_ONE: Final = "time of a cached allow over the floor's answer, 1 stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratio:
    """One party's throughput, or its p50, over another's."""

    of: str
    over: str
    is_throughput: bool
    what: str
    target: Target | None = None


RATIOS: Final = {
    "hot_throughput_vs_floor": _Ratio(
        of=WRITTEN, over=FLOOR, is_throughput=True, what=_MANY, target=at_least(0.80)
    ),
    "hot_throughput_vs_floor_synced": _Ratio(
        of=SYNCED, over=FLOOR, is_throughput=True, what=f"{_MANY}, `synced`", target=at_least(0.65)
    ),
    "hot_throughput_vs_floor_audit_off": _Ratio(
        of=OFF, over=FLOOR, is_throughput=True, what=f"{_MANY}, no audit"
    ),
    "hot_p50_vs_floor": _Ratio(
        of=WRITTEN, over=FLOOR, is_throughput=False, what=_ONE, target=at_most(1.25)
    ),
    "hot_p50_vs_floor_synced": _Ratio(
        of=SYNCED, over=FLOOR, is_throughput=False, what=f"{_ONE}, `synced`"
    ),
    "hot_p50_vs_floor_audit_off": _Ratio(
        of=OFF, over=FLOOR, is_throughput=False, what=f"{_ONE}, no audit"
    ),
    "audit_written_vs_none": _Ratio(
        of=WRITTEN, over=OFF, is_throughput=True, what="throughput with `written` over no audit"
    ),
    "audit_synced_vs_none": _Ratio(
        of=SYNCED, over=OFF, is_throughput=True, what="throughput with `synced` over no audit"
    ),
    "audit_written_p50_vs_none": _Ratio(
        of=WRITTEN, over=OFF, is_throughput=False, what="time of one Check, `written` over no audit"
    ),
    "audit_synced_p50_vs_none": _Ratio(
        of=SYNCED, over=OFF, is_throughput=False, what="time of one Check, `synced` over no audit"
    ),
}
GENERATOR: Final = "hot_generator_share"
_GENERATOR_WHAT: Final = "share of its own core that the generator used, at the floor's pace"


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """Each variant beside the floor, and each durability beside no audit."""
    request = tool_call("crm", world.sign_in("alice")).SerializeToString()
    async with AsyncExitStack() as stack:
        stack.enter_context(secret_files(world, folder / "secrets"))
        sockets = {
            variant.name: await stack.enter_async_context(serving(variant, world, folder))
            for variant in VARIANTS
        }
        answers = {name: await allow(socket, request) for name, socket in sockets.items()}
        sockets[FLOOR] = await stack.enter_async_context(floor(folder, answers[WRITTEN]))
        figures = medians([_round(sockets, request) for _ in rounds("hot", ROUNDS)])
    return [
        *(
            Figure(name=name, value=figures[name], what=ratio.what, target=ratio.target)
            for name, ratio in RATIOS.items()
        ),
        Figure(name=GENERATOR, value=figures[GENERATOR], what=_GENERATOR_WHAT),
    ]


def _round(sockets: Mapping[str, Path], request: bytes) -> Mapping[str, float]:
    many, one = (_in_turn(sockets, request, streams) for streams in (STREAMS, 1))
    figures = {name: _value(ratio, many, one) for name, ratio in RATIOS.items()}
    return {**figures, GENERATOR: many[FLOOR].generator}


def _in_turn(sockets: Mapping[str, Path], request: bytes, streams: int) -> Mapping[str, Borne]:
    return {
        name: bear([socket], request, streams=streams, seconds=SECONDS)
        for name, socket in sockets.items()
    }


def _value(ratio: _Ratio, many: Mapping[str, Borne], one: Mapping[str, Borne]) -> float:
    if ratio.is_throughput:
        return many[ratio.of].throughput / many[ratio.over].throughput
    return one[ratio.of].p50 / one[ratio.over].p50
