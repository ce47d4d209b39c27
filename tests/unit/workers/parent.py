"""A parent and its workers, as processes, and what they say and leave behind."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from ext_authz.demo.loopback import free_ports
from ext_authz.workers.health import serves
from tests.doubles.registrations import CREDENTIALS

ROOT: Final = Path(__file__).parents[3]
PATIENCE: Final = 90.0


class Parent:
    """`mcp-ext-authz serve`, with several workers. Nobody answers at its providers' addresses."""

    def __init__(self, folder: Path, *, log: str = "log") -> None:
        self.folder = folder
        self.file = folder / "settings.yaml"
        self._log = folder / log

    def write(self, **changed: object) -> None:
        """The settings, for two workers unless `changed`."""
        settings = {**_settings(self.folder), **changed}
        self.file.write_text(yaml.safe_dump(settings))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until it ends by itself, or the block does; nothing is left of it then."""
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ext_authz", "serve", str(self.file)),
                cwd=ROOT,
                env={**os.environ, **CREDENTIALS},
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
            )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    def events(self, name: str, *, after: int = 0) -> list[Mapping[str, Any]]:
        """What was logged under `name`, but for the first `after` lines of the log."""
        lines = self._log.read_bytes().split(b"\n")[:-1]
        return [event for event in map(_event, lines[after:]) if event["event"] == name]

    def lines(self) -> int:
        return self._log.read_bytes().count(b"\n")

    async def says(self, name: str, *, after: int = 0) -> Mapping[str, Any]:
        """The first event of that name, once it is there."""
        async with asyncio.timeout(PATIENCE):
            while not (found := self.events(name, after=after)):  # noqa: ASYNC110 - a file has none
                await asyncio.sleep(0.02)
        return found[0]

    def pids(self) -> dict[int, int]:
        """The workers that run: their processes, by their numbers."""
        return {number: pid for pid, number in _children(self.process.pid)}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def serves(self, worker: int) -> bool:
        return await serves(f"unix:{self.folder}/check-{worker}.sock")


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and is only not yet missed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(*pids: int) -> None:
    """Returns when all of them have ended."""
    async with asyncio.timeout(PATIENCE):
        while any(map(is_alive, pids)):  # noqa: ASYNC110 - a process has none
            await asyncio.sleep(0.02)


def _children(parent: int) -> list[tuple[int, int]]:
    """Process and number of each worker."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "--worker" in words and is_alive(int(pid)):
            found.append((int(pid), int(words[words.index("--worker") + 1])))
    return found


def _event(line: bytes) -> Mapping[str, Any]:
    """What is no JSON is what the program says before it ends."""
    try:
        event: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return {"event": "said", "text": line.decode()}
    return event


def _settings(folder: Path) -> dict[str, Any]:
    here = f"http://127.0.0.1:{free_ports().identity_provider}"
    client = {"id": "hub", "auth": "client_secret_post", "secret": {"env": "HUB_SECRET"}}
    return {
        "listen": f"unix:{folder}/check-{{worker}}.sock",
        "workers": 2,
        "identity_providers": [{"issuer": here, "audience": ["hub"], "client": client}],
        "authorization_servers": [{"issuer": here, "client": client}],
        "audit": {"file": f"{folder}/audit-{{worker}}.jsonl"},
    }
