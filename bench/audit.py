"""What the audit costs a Check: the service with each durability, over the service without an audit.

All of them are up at once and asked in turn, so that what else the machine does meets them alike.
"""

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bench.load import bear
from bench.requests import tool_call
from ext_authz.demo.front import process, relocated, secret_files, service_serves, shipped_yaml
from ext_authz.demo.world import World

ROUNDS: Final = 5
SECONDS: Final = 1.0
STREAMS: Final = 64
NONE: Final = "none"
# by name, the durability, and whether records are signed and hold fingerprints
LEVELS: Final = {
    "written": ("written", False),
    "written_with_keys": ("written", True),
    "synced": ("synced", False),
    "synced_with_keys": ("synced", True),
}
WHAT: Final = {
    **{f"audit_{name}_vs_none": "its throughput over that without an audit" for name in LEVELS},
    **{f"audit_{name}_p50_vs_none": "its time of one Check over that" for name in LEVELS},
    **{f"audit_{name}_per_second": f"records a second, {STREAMS} streams" for name in LEVELS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`throughput` in answers a second over `STREAMS` streams; `p50` in seconds, over one."""

    throughput: float
    p50: float


async def measure(world: World, folder: Path) -> Mapping[str, float]:
    """The figures of `WHAT`; the audit files are in `folder`, whose disk is the one that is measured."""
    request = tool_call("crm", world.sign_in("alice")).SerializeToString()
    async with AsyncExitStack() as stack:
        stack.enter_context(secret_files(world, folder / "secrets"))
        sockets = {
            name: await stack.enter_async_context(_service(name, world, folder))
            for name in (NONE, *LEVELS)
        }
        rounds = [await _round(sockets, request) for _ in range(ROUNDS)]
    return {name: statistics.median(each[name] for each in rounds) for name in WHAT}


async def _round(sockets: Mapping[str, Path], request: bytes) -> Mapping[str, float]:
    paces = {name: await _pace(str(socket), request) for name, socket in sockets.items()}
    print(".", end="", file=sys.stderr, flush=True)
    figures = {}
    for name in LEVELS:
        ours, none = paces[name], paces[NONE]
        figures[f"audit_{name}_vs_none"] = ours.throughput / none.throughput
        figures[f"audit_{name}_p50_vs_none"] = ours.p50 / none.p50
        figures[f"audit_{name}_per_second"] = ours.throughput
    return figures


async def _pace(socket: str, request: bytes) -> Pace:
    many = await bear(socket, request, streams=STREAMS, seconds=SECONDS)
    one = await bear(socket, request, streams=1, seconds=SECONDS)
    return Pace(throughput=many.throughput, p50=one.p50)


@asynccontextmanager
async def _service(name: str, world: World, folder: Path) -> AsyncIterator[Path]:
    """Runs the service with the level `name` until the block ends; gives its socket."""
    socket, configuration = folder / f"{name}.sock", folder / f"{name}.yaml"
    tree = yaml.safe_load(relocated(shipped_yaml().read_text(), world, folder))
    settings = tree["node"]["metadata"]["mcp_ext_authz"]
    settings["listen"] = f"unix:{socket}"
    settings["audit"] = _audit(name, folder)
    configuration.write_text(yaml.safe_dump(tree))
    module = "bench.unaudited" if name == NONE else "ext_authz"
    command = [sys.executable, "-m", module, "serve", str(configuration)]
    async with process(name, command, folder) as running:
        while not await service_serves(socket):
            if running.returncode is not None:
                raise RuntimeError((folder / f"{name}.err").read_text())
            await asyncio.sleep(0.05)
        yield socket


def _audit(name: str, folder: Path) -> dict[str, Any]:
    durability, has_keys = LEVELS.get(name, ("written", False))
    audit: dict[str, Any] = {"file": f"{folder}/{name}.jsonl", "durability": durability}
    if has_keys:
        audit["signing_key"] = {"file": f"{folder}/secrets/audit.pem"}
        audit["fingerprint_key"] = {"file": f"{folder}/secrets/fingerprint"}
    return audit
