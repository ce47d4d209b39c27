"""`python -m bench.peers`: LiteLLM's MCP gateway and ours through Envoy on the same calls, as a table.

Both stand before the same upstream and trade at the same identity provider and authorization server, the
demo world's. Each has the server's core: LiteLLM as it is, ours as the service, whose Envoy has the other. A
warm call through LiteLLM is more than a proxied request, since it ends the client's MCP connection and opens
one of its own to the upstream; that is how it works, and what its users wait for.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop

from bench.cores import GENERATOR, pinned
from bench.figure import Figure, at_least, medians
from bench.fronts import asking, envoy, upstream
from bench.peers import calls
from bench.peers.calls import Gateway
from bench.peers.litellm import ADMISSION, PATH, litellm
from bench.processes import Variant, serving
from bench.progress import rounds, told
from bench.report import table
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World

ROUNDS: Final = 5
UPSTREAM: Final = "bench.peers.mcp_upstream"
OURS: Final = "ours"
PEER: Final = "litellm"
_WARM: Final = {
    "peers_warm_p50_litellm_vs_ours": "time of a warm call through LiteLLM over ours through Envoy, p50",
    "peers_warm_p99_litellm_vs_ours": "the same, p99",
}
_COUNTED: Final = {
    "burst_exchanges": f"requests of both legs for {calls.BURST} simultaneous first calls of a user",
    "burst_seconds": "seconds until the last of them was answered",
    "denial_calls": f"requests to the identity provider for {calls.DENIALS} calls that it refuses",
    "rotation_exchanges": f"ID-JAGs for {calls.ROTATIONS} user tokens of one session",
}


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """Both on the same calls, in turn."""
    async with AsyncExitStack() as stack:
        stack.enter_context(secret_files(world, folder / "secrets"))
        behind = await stack.enter_async_context(upstream(folder, UPSTREAM))
        names = await stack.enter_async_context(upstream(folder, UPSTREAM, "nothing"))
        service = await stack.enter_async_context(serving(Variant(name="service"), world, folder))
        front = await stack.enter_async_context(
            envoy(OURS, world, folder, behind, asking(service), server="wiki")
        )
        peer = await stack.enter_async_context(litellm(world, folder, behind, names))
        gateways = {
            OURS: Gateway(address=front, path="/wiki/mcp"),
            PEER: Gateway(address=peer, path=PATH, headers=ADMISSION),
        }
        token = calls.id_token(world, "alice")
        warm = medians([_warm(gateways, token) for _ in rounds("peers", ROUNDS)])
        counted = {name: await _counted(each, world) for name, each in gateways.items()}
    return [*_ratios(warm), *_counts(counted)]


def _warm(gateways: Mapping[str, Gateway], token: str) -> Mapping[str, float]:
    ours, peer = (calls.warm(gateways[name], token) for name in (OURS, PEER))
    p50, p99 = _WARM
    return {p50: peer.p50 / ours.p50, p99: peer.p99 / ours.p99}


async def _counted(gateway: Gateway, world: World) -> Mapping[str, float]:
    with told(f"peers: counting at {gateway.url}"):
        exchanges, seconds = await calls.burst_exchanges(gateway, world)
        return {
            "burst_exchanges": exchanges,
            "burst_seconds": seconds,
            "denial_calls": await calls.denial_calls(gateway, world),
            "rotation_exchanges": await calls.rotation_exchanges(gateway, world),
        }


def _ratios(warm: Mapping[str, float]) -> Sequence[Figure]:
    p50, p99 = _WARM
    return [
        Figure(name=p50, value=warm[p50], what=_WARM[p50], target=at_least(15)),
        Figure(name=p99, value=warm[p99], what=_WARM[p99]),
    ]


def _counts(counted: Mapping[str, Mapping[str, float]]) -> Sequence[Figure]:
    return [
        Figure(name=f"peers_{name}_{gateway}", value=counted[gateway][name], what=what)
        for name, what in _COUNTED.items()
        for gateway in (OURS, PEER)
    ]


async def _run() -> Sequence[Figure]:
    with World.in_thread() as world, tempfile.TemporaryDirectory() as folder:
        return await measure(world, Path(folder))


if __name__ == "__main__":
    with pinned(GENERATOR), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(table(runner.run(_run())))
