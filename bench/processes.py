"""The parties of a measurement, each a process on the server's core: the service in its variants, the floor."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from bench.cores import SERVER, pinned
from ext_authz.demo.front import process, relocated, service_serves, shipped_yaml
from ext_authz.demo.world import World

POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A way to run the service: the module that is run, and what `audit` has beside the shipped file's.

    The shipped file's is: `written`, with a signing key and a fingerprint key.
    """

    name: str
    module: str = "ext_authz"
    audit: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def serving(
    variant: Variant, world: World, folder: Path, core: Set[int] = SERVER
) -> AsyncIterator[Path]:
    """Runs the variant until the block ends; gives its socket. The `folder` has the secrets."""
    socket, configuration = folder / f"{variant.name}.sock", folder / f"{variant.name}.yaml"
    tree = yaml.safe_load(relocated(shipped_yaml().read_text(), world, folder))
    settings = tree["node"]["metadata"]["mcp_ext_authz"]
    settings["listen"] = f"unix:{socket}"
    settings["audit"] |= {"file": f"{folder}/{variant.name}.jsonl", **variant.audit}
    configuration.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", variant.module, "serve", str(configuration)]
    async with started(variant.name, command, folder, core) as running:
        while not await service_serves(socket):
            _refuse_dead(running, variant.name, folder)
            await asyncio.sleep(POLL_SECONDS)
        yield socket


@asynccontextmanager
async def floor(folder: Path, answer: bytes, core: Set[int] = SERVER) -> AsyncIterator[Path]:
    """Runs the floor with this answer until the block ends; gives its socket."""
    socket, file = folder / "floor.sock", folder / "answer"
    file.write_bytes(answer)
    command = [sys.executable, "-m", "bench.floor", str(socket), str(file)]
    async with started("floor", command, folder, core) as running:
        while not socket.exists():
            _refuse_dead(running, "floor", folder)
            await asyncio.sleep(POLL_SECONDS)
        yield socket


@asynccontextmanager
async def started(
    name: str, command: Sequence[str], folder: Path, core: Set[int]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `command` on `core` until the block ends."""
    async with AsyncExitStack() as stack:
        with pinned(core):
            running = await stack.enter_async_context(process(name, command, folder))
        yield running


def _refuse_dead(running: asyncio.subprocess.Process, name: str, folder: Path) -> None:
    if running.returncode is not None:
        raise RuntimeError((folder / f"{name}.err").read_text())
