"""Two replicas of the service behind one Envoy, on the shipped envoy.yaml: all of them processes."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import yaml

from bench.requests import tool_call
from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub
from ext_authz.demo.front import (
    envoy_command,
    envoy_listens,
    process,
    relocated,
    secret_files,
    service_serves,
    shipped_yaml,
)
from ext_authz.demo.world import World
from tests.envoy.chaos.faulty_road import FaultyRoad
from tests.envoy.chaos.load import Answered, Caller, call
from tests.envoy.mcp_call import http_client
from tests.envoy.recorder import Recorder

START_SECONDS: Final = 30
REPLICAS: Final = ("one", "two")
SERVICE: Final = "ext_authz"
CONNECTING: Final = (("grpc.initial_reconnect_backoff_ms", 100),)


class Replica:
    """A process of the service, with a socket and an audit file of its own."""

    def __init__(self, name: str, folder: Path, bootstrap: str, module: str) -> None:
        self.socket = folder / f"{name}.sock"
        self.audit_file = folder / f"{name}.jsonl"
        self._name = name
        self._folder = folder
        self._stack = contextlib.AsyncExitStack()
        configuration = folder / f"{name}.yaml"
        configuration.write_text(self._own(bootstrap))
        self._command = [sys.executable, "-m", module, "serve", str(configuration)]

    def _own(self, bootstrap: str) -> str:
        tree = yaml.safe_load(bootstrap)
        settings = tree["node"]["metadata"]["mcp_ext_authz"]
        settings["listen"] = f"unix:{self.socket}"
        settings["audit"] = {"file": str(self.audit_file)}
        return yaml.safe_dump(tree)

    async def start(self) -> None:
        self.process = await self._stack.enter_async_context(
            process(self._name, self._command, self._folder)
        )
        await until(self.serves)

    async def stop(self) -> None:
        """Ends it in order, unless it has ended already; one that was halted is let go on first."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        await self._stack.aclose()

    async def serves(self) -> bool:
        assert self.process.returncode is None, f"{self._name} ended; see {self._folder}"
        return await service_serves(self.socket)

    def descriptors(self) -> int:
        """How many file descriptors it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def warm(self, callers: Iterable[Caller]) -> None:
        """Fetches each caller's access token."""
        async with grpc.aio.insecure_channel(f"unix:{self.socket}", CONNECTING) as channel:
            for caller in callers:
                check = AuthorizationStub(channel).Check
                answer = await check(tool_call("crm", caller.token), timeout=10)
                assert answer.status.code == grpc.StatusCode.OK.value[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """All that is up. `idp_road` is how the replicas reach the identity provider."""

    world: World
    idp_road: FaultyRoad
    upstream: Recorder
    replicas: Sequence[Replica]
    url: str
    access_log: Path

    def user(self, name: str = "alice") -> Caller:
        """The user in a new session, of which no replica knows."""
        return Caller(token=self.world.sign_in(name), subject=f"00u-{name}")

    async def warm_users(self) -> Sequence[Caller]:
        """Users whose access token every replica holds."""
        users = [self.user(name) for name in ("alice", "bob", "carol")]
        for replica in self.replicas:
            await replica.warm(users)
        return users

    async def call(self, caller: Caller) -> Answered:
        """One call, on a connection of its own."""
        async with http_client() as http:
            return await call(http, self.url, caller)

    def stranger(self) -> Caller:
        """Somebody with alice's claims, and a signature that belongs to other ones."""
        claims, other = (self.world.sign_in("alice").split(".") for _ in range(2))
        return Caller(token=".".join((*claims[:2], other[2])), subject="")


@contextlib.asynccontextmanager
async def gateway(
    folder: Path, *, replicas: Sequence[str] = REPLICAS, module: str = SERVICE
) -> AsyncIterator[Gateway]:
    """Runs it until the block ends. `module` is what a replica runs."""
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(World.running())
        upstream = await stack.enter_async_context(Recorder())
        road = await stack.enter_async_context(FaultyRoad(world.ports.identity_provider))
        stack.enter_context(secret_files(world, folder / "secrets"))
        bootstrap = _bootstrap(world, folder, road.port)
        running = [Replica(name, folder, bootstrap, module) for name in replicas]
        for replica in running:
            stack.push_async_callback(replica.stop)
        await asyncio.gather(*(replica.start() for replica in running))
        configuration = folder / "envoy.yaml"
        configuration.write_text(_before(running, upstream.port, bootstrap))
        await stack.enter_async_context(process("envoy", envoy_command(configuration), folder))
        front = f"http://127.0.0.1:{world.ports.front}"
        await until(lambda: envoy_listens(front))
        yield Gateway(
            world=world,
            idp_road=road,
            upstream=upstream,
            replicas=running,
            url=f"{front}/crm/mcp",
            access_log=folder / "envoy.out",
        )


async def until(ready: Callable[[], Awaitable[bool]], seconds: float = START_SECONDS) -> float:
    """Waits for `ready`, for so many seconds at most; gives how many it took."""
    began = time.monotonic()
    while not await ready():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def _bootstrap(world: World, folder: Path, road: int) -> str:
    """The shipped file for this world, its identity provider at the end of `road`."""
    tree = yaml.safe_load(relocated(shipped_yaml().read_text(), world, folder))
    (provider,) = tree["node"]["metadata"]["mcp_ext_authz"]["identity_providers"]
    provider["token_endpoint"] = f"http://127.0.0.1:{road}/token"
    provider["jwks_uri"] = f"http://127.0.0.1:{road}/jwks"
    return yaml.safe_dump(tree)


def _before(replicas: Iterable[Replica], upstream: int, bootstrap: str) -> str:
    """What Envoy runs on: every replica an endpoint, the recorder at port `upstream` for the CRM."""
    tree = yaml.safe_load(bootstrap)
    clusters = {cluster["name"]: cluster for cluster in tree["static_resources"]["clusters"]}
    for cluster in (clusters["mcp_ext_authz"], clusters["mcp_ext_authz_access_log"]):
        _endpoints(cluster)[:] = [
            {"endpoint": {"address": {"pipe": {"path": str(replica.socket)}}}}
            for replica in replicas
        ]
    (crm,) = _endpoints(clusters["crm"])
    crm["endpoint"]["address"]["socket_address"]["port_value"] = upstream
    return yaml.safe_dump(tree)


def _endpoints(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    (locality,) = cluster["load_assignment"]["endpoints"]
    endpoints: list[dict[str, Any]] = locality["lb_endpoints"]
    return endpoints
