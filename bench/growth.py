"""How the time of a cached Check grows with what there is: access tokens, servers, users.

In process and without sockets, so that nothing constant hides the growth: a Check is decision, audit
(`written`) and response. The small and the large party of each pair are asked in turn.
"""

import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.figure import Figure, at_most, medians
from bench.in_process import TOKEN_BYTES, InProcess, in_process
from bench.progress import rounds, told
from ext_authz.demo.world import World

ROUNDS: Final = 5
FEW: Final = 1_000
MANY: Final = 1_000_000
SERVERS: Final = 1_000
USERS: Final = 100_000
SAMPLE: Final = 1_000
_WHAT: Final = {
    "p50_at_1e6_vs_1e3": "time of a cached Check with a million access tokens over a thousand",
    "lookup_p50_at_1e6_vs_1e3": "the same of the lookup alone (`AccessTokens.token_for`)",
    "check_p50_at_1000_servers_vs_1": "the same of a Check with 1,000 servers over one",
    "check_p50_at_100000_users_vs_1": "the same with 100,000 users in turn over one: verified anew each time",
}
_TARGETS: Final = {"p50_at_1e6_vs_1e3": at_most(1.10)}
Ask = Callable[[], Coroutine[Any, Any, object]]


async def measure(world: World, folder: Path) -> Sequence[Figure]:
    """The growth of a Check's time, and the memory that an access token takes."""
    async with AsyncExitStack() as stack:
        few = await stack.enter_async_context(in_process(world, folder / "few"))
        wide = await stack.enter_async_context(in_process(world, folder / "wide", servers=SERVERS))
        many = await stack.enter_async_context(in_process(world, folder / "many"))
        await few.keep(range(FEW), [0])
        await wide.keep([0], range(SERVERS))
        with told("growth: a million access tokens"):
            size = await _bytes_per_entry(many)
        figures = medians([await _round(few, wide, many) for _ in rounds("growth", ROUNDS)])
    return [
        *(
            Figure(name=name, value=figures[name], what=what, target=_TARGETS.get(name))
            for name, what in _WHAT.items()
        ),
        Figure(
            name="bytes_per_entry",
            value=size,
            what="bytes of memory that a cached access token takes beside its own text",
        ),
    ]


async def _bytes_per_entry(many: InProcess) -> float:
    before = _resident_bytes()
    await many.keep(range(MANY), [0])
    gc.collect()
    return (_resident_bytes() - before) / MANY - TOKEN_BYTES


async def _round(few: InProcess, wide: InProcess, many: InProcess) -> Mapping[str, float]:
    """Of all the access tokens those that are asked for are drawn anew, so that no round warms another's."""
    one = await _known(few, [(0, 0)]) * SAMPLE
    in_few = await _known(few, [(user, 0) for user in _some(FEW)])
    in_many = await _known(many, [(user, 0) for user in _some(MANY)])
    of_servers = await _known(wide, [(0, server) for server in _some(SERVERS)])
    of_strangers = [_check(many, (user, 0)) for user in _some(USERS)]
    return {
        "p50_at_1e6_vs_1e3": await _ratio(in_many, in_few),
        "lookup_p50_at_1e6_vs_1e3": await _ratio(_lookups(many, MANY), _lookups(few, FEW)),
        "check_p50_at_1000_servers_vs_1": await _ratio(of_servers, one),
        "check_p50_at_100000_users_vs_1": await _ratio(of_strangers, one),
    }


async def _known(part: InProcess, pairs: Iterable[tuple[int, int]]) -> list[Ask]:
    """Checks of users, each at a server, whose user tokens were verified and are remembered."""
    checks: list[Ask] = []
    for user, server in pairs:
        request = part.request(user, server)
        await part.verify(request)
        checks.append(partial(part.allow, request))
    return checks


def _check(part: InProcess, pair: tuple[int, int]) -> Ask:
    return partial(part.allow, part.request(*pair))


def _lookups(part: InProcess, entries: int) -> list[Ask]:
    server = part.server(0)
    users = [part.user(number) for number in _some(entries)]
    return [partial(part.access_tokens.token_for, user, server) for user in users]


async def _ratio(of: Sequence[Ask], over: Sequence[Ask]) -> float:
    """The p50 of the ones over that of the others, one after the other in turn."""
    ones: list[float] = []
    others: list[float] = []
    for one, other in zip(of, over, strict=True):
        ones.append(await _seconds(one))
        others.append(await _seconds(other))
    return statistics.median(ones) / statistics.median(others)


async def _seconds(ask: Ask) -> float:
    began = time.perf_counter()
    await ask()
    return time.perf_counter() - began


def _some(among: int) -> list[int]:
    return random.choices(range(among), k=SAMPLE)


def _resident_bytes() -> int:
    """Second field of /proc/self/statm: pages in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
