"""What the filter adds to a call through a real Envoy, beside no filter and beside the floor as filter.

Three Envoys on the shipped configuration, up at once and asked in turn by one caller on a kept connection:
one without filter and interlock, one whose filter asks the floor, one whose filter asks the service (audit
`written`, access log sent). Envoy, upstream and generator share a core, since only one of them works at any
moment; the service and the floor have the other. `envoy_p50_vs_no_filter` is the whole call's time over
that of the same call without a filter; `envoy_added_p50_vs_floor` is what our filter adds over what the
floor as filter adds.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.asking import allow
from bench.figure import Figure, medians
from bench.fronts import asking, asking_floor, asking_nobody, envoy, upstream
from bench.http_load import bear_http, post
from bench.load import Borne
from bench.processes import Variant, floor, serving
from bench.progress import rounds
from bench.requests import BODY, client_headers, tool_call
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World

ROUNDS: Final = 7
SECONDS: Final = 1.5
NONE: Final = "none"
FLOOR: Final = "floor"
OURS: Final = "ours"
WHAT: Final = {
    "envoy_p50_vs_no_filter": "time of a call through Envoy with our filter over that with none, p50",
    "envoy_p99_vs_no_filter": "the same, p99",
    "envoy_p50_vs_floor_filter": "the same call over that with the floor as filter, p50",
    "envoy_p99_vs_floor_filter": "the same, p99",
    "envoy_added_p50_vs_floor": "time that our filter adds over what the floor as filter adds, p50",
    "envoy_added_p99_vs_floor": "the same, p99",
    "envoy_added_p50_ms": "milliseconds that our filter adds, p50",
    "envoy_added_p99_ms": "milliseconds that our filter adds, p99",
}


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """Our filter beside none and beside the floor."""
    token = world.sign_in("alice")
    check = tool_call("crm", token).SerializeToString()
    call = post("/crm/mcp", client_headers(token), BODY)
    async with AsyncExitStack() as stack:
        stack.enter_context(secret_files(world, folder / "secrets"))
        service = await stack.enter_async_context(serving(Variant(name="service"), world, folder))
        answer = await allow(service, check)
        bare = await stack.enter_async_context(floor(folder, answer))
        behind = await stack.enter_async_context(upstream(folder))
        changes = {NONE: asking_nobody, FLOOR: asking_floor(bare), OURS: asking(service)}
        fronts = {
            name: await stack.enter_async_context(envoy(name, world, folder, behind, change))
            for name, change in changes.items()
        }
        figures = medians([_round(fronts, call) for _ in rounds("envoy", ROUNDS)])
    return [Figure(name=name, value=figures[name], what=what) for name, what in WHAT.items()]


def _round(fronts: Mapping[str, tuple[str, int]], call: bytes) -> Mapping[str, float]:
    by_name = {name: bear_http(address, call, seconds=SECONDS) for name, address in fronts.items()}
    return {**_figures("p50", by_name), **_figures("p99", by_name)}


def _figures(which: str, by_name: Mapping[str, Borne]) -> Mapping[str, float]:
    seconds: dict[str, float] = {name: getattr(each, which) for name, each in by_name.items()}
    added, by_floor = seconds[OURS] - seconds[NONE], seconds[FLOOR] - seconds[NONE]
    return {
        f"envoy_{which}_vs_no_filter": seconds[OURS] / seconds[NONE],
        f"envoy_{which}_vs_floor_filter": seconds[OURS] / seconds[FLOOR],
        f"envoy_added_{which}_vs_floor": added / by_floor,
        f"envoy_added_{which}_ms": added * 1000,
    }
