"""The service in a process of its own, which logs all it can and has a spy inside."""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import yaml

from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub

if TYPE_CHECKING:
    from ext_authz._protos.external_auth_pb2_grpc import AuthorizationAsyncStub

ROOT: Final = Path(__file__).parents[2]
INSIDE: Final = Path(__file__).parent / "inside"
PATIENCE: Final = 30.0
LOOKED_AROUND: Final = b"looked around\n"
DEVELOPMENT: Final = (sys.executable, "-X", "dev", "-m", "ext_authz")


def environment(**more: str) -> dict[str, str]:
    """Of a process with the spy inside; without `LOOKED_AROUND` it only makes it talk."""
    return {
        **os.environ,
        "PYTHONPATH": f"{INSIDE}{os.pathsep}{ROOT}",
        "GRPC_VERBOSITY": "DEBUG",
        **more,
    }


class Service:
    """One process. `home` is its folder; what it is given, and says, stands in another."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], **variables: str) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        outside = folder / "outside"
        outside.mkdir()
        self._output, self._log, self._memory = (outside / n for n in ("output", "log", "memory"))
        for file in (self._output, self._log, self._memory):
            file.touch()
        self._file = outside / "settings.yaml"
        self.listen = f"unix:{self.home}/check.sock"
        self._file.write_text(yaml.safe_dump({"listen": self.listen, **settings}))
        self._environment = environment(
            HOME=str(self.home),
            TMPDIR=str(self.home),
            LOOKED_AROUND=str(self._memory),
            **variables,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["AuthorizationAsyncStub"]:
        with self._output.open("wb") as output, self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*DEVELOPMENT, "serve", str(self._file)),
                cwd=self.home,
                env=self._environment,
                stdout=output,
                stderr=log,
            )
        resource.prlimit(self._process.pid, resource.RLIMIT_CORE, (0, 0))
        try:
            await self._until(self._log, b'"serving"')
            async with grpc.aio.insecure_channel(self.listen) as channel:
                yield AuthorizationStub(channel)
        finally:
            await self.ends(signal.SIGKILL)

    @property
    def output(self) -> bytes:
        return self._output.read_bytes()

    @property
    def log(self) -> bytes:
        return self._log.read_bytes()

    @property
    def memory(self) -> bytes:
        """The printed form of everything of ours, and of every exception, that was alive."""
        return self._memory.read_bytes()

    def files(self) -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in self.home.rglob("*") if file.is_file()}

    async def shows_its_memory(self) -> None:
        before = len(self.memory)
        self._process.send_signal(signal.SIGUSR1)
        await self._until(self._memory, LOOKED_AROUND, after=before)

    async def lets_exceptions_loose(self) -> None:
        before = len(self.log)
        self._process.send_signal(signal.SIGUSR2)
        await self._until(self._log, b'"uncaught"', after=before)

    async def ends(self, number: signal.Signals) -> int:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self._process.wait()

    async def _until(self, file: Path, words: bytes, *, after: int = 0) -> None:
        async with asyncio.timeout(PATIENCE):
            while not _says(file, words, after):
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.02)


def _says(file: Path, words: bytes, after: int) -> bool:
    return words in file.read_bytes()[after:]
