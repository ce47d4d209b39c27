"""The first call of a sign-in that was never seen, beside the two requests that it cannot do without.

Ours is a whole Check: it verifies the user token, signs a client assertion, makes both legs, checks what
comes back, records, answers. The other is two bare httpx2 POSTs of ready-made forms to the same token
endpoints over kept connections, in a process of its own on the same core with the same event loop. Each
pair of them is measured one after the other. The endpoints are the demo world's: what they take is in both.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final

from bench.asking import allow, at_once, is_allow
from bench.cores import SERVER, pinned
from bench.figure import Figure, at_most, exactly
from bench.http2 import Calls
from bench.load import ALLOWED
from bench.processes import Variant, serving
from bench.progress import rounds, say
from bench.requests import tool_call
from bench.two_posts import leg_1, leg_2
from ext_authz.demo.front import secret_files
from ext_authz.demo.world import World

ROUNDS: Final = 5
PAIRS: Final = 40
BURST: Final = 200
LINE_BYTES: Final = 1 << 20


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """A cold Check's time, and what a burst of cold and of failing calls costs the providers."""
    with secret_files(world, folder / "secrets"):
        async with serving(Variant(name="service"), world, folder) as socket:
            await allow(socket, _cold(world, "alice", "crm"))  # finds the endpoints and their keys
            ratio = await _cold_vs_two_posts(world, socket)
            say("cold: bursts")
            return [
                Figure(
                    name="cold_vs_two_posts",
                    value=ratio,
                    what="time of a first Check over two bare POSTs to the same endpoints",
                    target=at_most(1.15),
                ),
                await _burst(world, socket),
                await _failing_burst(world, socket),
            ]


async def _cold_vs_two_posts(world: World, socket: Path) -> float:
    first = _cold(world, "alice", "crm")
    async with _two_posts() as posts:
        with closing(Calls(socket, first, ALLOWED)) as calls:
            return statistics.median(
                [await _round(world, calls, posts) for _ in rounds("cold", ROUNDS)]
            )


async def _round(world: World, calls: Calls, posts: asyncio.subprocess.Process) -> float:
    """Of the round's pairs, the median time of a Check over that of the two requests."""
    ours, bare = [], []
    for _ in range(PAIRS):
        ours.append(_check_seconds(calls, _cold(world, "alice", "crm")))
        bare.append(await _posts_seconds(world, posts))
    return statistics.median(ours) / statistics.median(bare)


def _check_seconds(calls: Calls, request: bytes) -> float:
    calls.ask_next(request)
    calls.call()
    while not calls.receive():
        pass
    return calls.latencies[-1]


async def _posts_seconds(world: World, posts: asyncio.subprocess.Process) -> float:
    if posts.stdin is None or posts.stdout is None:
        raise RuntimeError("the process has no pipes")
    forms = [leg_1(world), leg_2(world)]
    posts.stdin.write(json.dumps(forms).encode() + b"\n")
    return float(await posts.stdout.readline())


@asynccontextmanager
async def _two_posts() -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "bench.two_posts"]
    async with AsyncExitStack() as stack:
        with pinned(SERVER):
            posts = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES,
            )
        stack.push_async_callback(posts.wait)
        stack.callback(posts.terminate)
        yield posts


async def _burst(world: World, socket: Path) -> Figure:
    before = world.counts()
    answers = await at_once(socket, [_cold(world, "carol", "crm")] * BURST)
    if not all(map(is_allow, answers)):
        raise RuntimeError("a call of the burst was denied")
    after = world.counts()
    exchanges = after.leg1 - before.leg1 + sum(after.leg2.values()) - sum(before.leg2.values())
    return Figure(
        name="burst_exchanges",
        value=exchanges,
        what=f"requests of both legs together for {BURST} simultaneous first calls of a user",
        target=exactly(2),
    )


async def _failing_burst(world: World, socket: Path) -> Figure:
    """Bob may not use the wiki: that is what the identity provider says at leg 1."""
    before = sum(world.counts().leg1_refused.values())
    answers = await at_once(socket, [_cold(world, "bob", "wiki")] * BURST)
    if any(map(is_allow, answers)):
        raise RuntimeError("a call of the failing burst was allowed")
    return Figure(
        name="failing_burst_calls",
        value=sum(world.counts().leg1_refused.values()) - before,
        what=f"requests to the identity provider for {BURST} simultaneous calls that it refuses",
        target=exactly(1),
    )


def _cold(world: World, user: str, server: str) -> bytes:
    """A call of a sign-in that nobody has seen before."""
    return tool_call(server, world.sign_in(user)).SerializeToString()
