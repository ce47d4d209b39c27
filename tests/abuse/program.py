"""The program in a process of its own, with the doubles behind it, to be stopped, killed and starved."""

import contextlib
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.doubles.movable_time import MovableTime
from tests.pipeline.gateway import Gateway
from tests.pipeline.gateway import gateway as not_yet_serving
from tests.pipeline.test_process import said, serve, settings

NOTHING_ELSE: Final[Mapping[str, Any]] = {}


@contextlib.asynccontextmanager
async def behind() -> AsyncIterator[Gateway]:
    """The doubles, in the real time, which is the program's; no service yet."""
    async with not_yet_serving(MovableTime(wall=time.time())) as gateway:
        yield gateway


def settings_file(gateway: Gateway, changes: Mapping[str, Any] = NOTHING_ELSE) -> Path:
    """The program's settings, written beside its socket."""
    directory = gateway.audit_file.parent
    members = settings(directory, gateway.idp.issuer, gateway.authorization_server.issuer)
    file = directory / "settings.yaml"
    file.write_text(yaml.safe_dump({**members, **changes}))
    return file


@contextlib.asynccontextmanager
async def program(
    gateway: Gateway, changes: Mapping[str, Any] = NOTHING_ELSE
) -> AsyncIterator[Process]:
    """Runs it until the block ends, `gateway` calling it; then kills it if it still runs."""
    process = await serve(settings_file(gateway, changes))
    try:
        await said(process, "serving")
        async with gateway.calling():
            yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
