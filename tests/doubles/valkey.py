"""A Valkey or Redis server of our own, as a real process: it can be paused, killed and started again."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import redis.asyncio

from ext_authz.settings.valkey_url import ValkeyAddress

START_SECONDS: Final = 20.0
_IN_MEMORY: Final = ("--save", "", "--appendonly", "no", "--port", "0", "--loglevel", "warning")


class Valkey:
    """Runs while the block runs, on a Unix socket; on other places if `options` say so."""

    def __init__(self, program: Sequence[str], folder: Path, *options: str) -> None:
        self.socket = folder / "valkey.sock"
        self._log = folder / "valkey.log"
        self._command = (*program, *_IN_MEMORY, "--unixsocket", str(self.socket), *options)
        self.client = redis.asyncio.Redis(unix_socket_path=str(self.socket), protocol=2)

    @property
    def address(self) -> ValkeyAddress:
        return ValkeyAddress(path=str(self.socket))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self.kill()

    async def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: ASYNC220
        async with asyncio.timeout(START_SECONDS):
            while not await self._answers():
                assert self._process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.01)

    def pause(self) -> None:
        """It accepts connections, and says nothing any more."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def everything(self) -> dict[bytes, bytes]:
        """All that is kept, by name."""
        names = [name async for name in self.client.scan_iter()]
        values: Any = await self.client.mget(names) if names else []
        return dict(zip(names, values, strict=True))

    async def command(self, *words: str) -> None:
        client: Any = self.client
        await client.execute_command(*words)

    async def empty(self) -> None:
        await self.client.flushall()

    async def _answers(self) -> Any:
        try:
            return await self.client.ping()
        except (redis.exceptions.RedisError, OSError):
            return False
