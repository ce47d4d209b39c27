"""Fronts to look into and to break: Envoy and service one by one, the recorder in the CRM's place."""

import asyncio
import contextlib
import re
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from ext_authz.demo.front import Front, envoy_command, envoy_listens, process, service_serves
from ext_authz.demo.loopback import free_ports
from ext_authz.demo.world import World

START_SECONDS: Final = 20


def front_before(upstream: int, world: World, like: Front, folder: Path) -> Front:
    """The configuration of `like` on a port and in a folder of its own, the CRM at port `upstream`.

    It shares the secrets of `like`. Nothing runs yet.
    """
    port = free_ports().front
    front = Front(folder=folder, url=f"http://127.0.0.1:{port}")
    text = like.configuration.read_text()
    text = re.sub(rf"{like.folder}/(?!secrets)", f"{folder}/", text)
    text = re.sub(rf"\b{world.ports.front}\b", str(port), text)
    text = text.replace(f"port_value: {world.ports.crm}", f"port_value: {upstream}")
    front.configuration.write_text(text)
    return front


@contextlib.asynccontextmanager
async def service(front: Front) -> AsyncIterator[Process]:
    """Runs the service of `front` until the block ends."""
    command = [sys.executable, "-m", "ext_authz", "serve", str(front.configuration)]
    async with process("service", command, front.folder) as running:
        await _until(lambda: service_serves(front.folder / "check.sock"), running, front)
        yield running


@contextlib.asynccontextmanager
async def envoy(front: Front) -> AsyncIterator[Process]:
    """Runs the Envoy of `front` until the block ends."""
    command = envoy_command(front.configuration)
    async with process("envoy", command, front.folder) as running:
        await _until(lambda: envoy_listens(front.url), running, front)
        yield running


async def _until(ready: Callable[[], Awaitable[bool]], running: Process, front: Front) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await ready():
        assert running.returncode is None, f"it ended; see {front.folder}"
        assert time.monotonic() < deadline, f"it does not answer; see {front.folder}"
        await asyncio.sleep(0.05)
