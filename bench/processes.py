"""The parties of a measurement, each a process on the server's core: the service in its variants, the floor."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
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
    variant: Variant, world: World, folder: Path, core: AbstractSet[int] = SERVER
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
        await up(running, folder / f"{variant.name}.err", lambda: service_serves(socket))
        yield socket


@asynccontextmanager
async def floor(
    folder: Path, answer: bytes, core: AbstractSet[int] = SERVER
) -> AsyncIterator[Path]:
    """Runs the floor with this answer until the block ends; gives its socket."""
    socket, file = folder / "floor.sock", folder / "answer"
    file.write_bytes(answer)
    command = [sys.executable, "-m", "bench.floor", str(socket), str(file)]
    async with started("floor", command, folder, core) as running:
        await up(running, folder / "floor.err", lambda: asyncio.to_thread(socket.exists))
        yield socket


@asynccontextmanager
async def started(
    name: str, command: Sequence[str], folder: Path, core: AbstractSet[int]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `command` on `core` until the block ends."""
    async with AsyncExitStack() as stack:
        with pinned(core):
            running = await stack.enter_async_context(process(name, command, folder))
        yield running


async def up(
    running: asyncio.subprocess.Process, errors: Path, ready: Callable[[], Awaitable[bool]]
) -> None:
    """Waits until the process is `ready`; raises `RuntimeError` with its `errors` where it stopped."""
    while not await ready():
        if running.returncode is not None:
            raise RuntimeError(await asyncio.to_thread(errors.read_text))
        await asyncio.sleep(POLL_SECONDS)
