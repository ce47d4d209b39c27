"""Two workers of one service behind a real Envoy: the shipped envoy.yaml, with what docs/workers.md adds."""

import asyncio
import contextlib
import functools
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
import yaml

from bench.requests import tool_call
from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub
from ext_authz.demo.figures import json_lines
from ext_authz.demo.front import (
    envoy_command,
    envoy_listens,
    process,
    relocated,
    secret_files,
    service_serves,
    shipped_yaml,
)
from ext_authz.demo.loopback import free_ports
from ext_authz.demo.world import World
from tests.envoy.chaos.gateway import CONNECTING, until
from tests.envoy.chaos.load import Caller
from tests.envoy.recorder import Recorder

PAGE: Final = Path(__file__).parents[3] / "docs/workers.md"
SETTINGS, ENDPOINTS, FILTER, METADATA, BALANCING = (
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
)
WORKERS: Final = (1, 2)
CLUSTERS: Final = ("mcp_ext_authz", "mcp_ext_authz_access_log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """All that is up."""

    world: World
    upstream: Recorder
    parent: Process
    folder: Path
    url: str

    def socket(self, worker: int) -> Path:
        return self.folder / f"check-{worker}.sock"

    def audit_file(self, worker: int) -> Path:
        return self.folder / f"audit-{worker}.jsonl"

    def user(self, name: str) -> Caller:
        return Caller(token=self.world.sign_in(name), subject=f"00u-{name}")

    async def warm_users(self) -> Sequence[Caller]:
        """Users whose access token every worker holds."""
        users = [self.user(name) for name in ("alice", "bob", "carol")]
        for worker in WORKERS:
            await _warm(self.socket(worker), users)
        return users

    def pids(self) -> dict[int, int]:
        """The process that serves as each worker, by its number."""
        return {
            event["worker"]: event["pid"]
            for event in self._events()
            if event["event"] == "worker_serving"
        }

    def said(self, name: str) -> int:
        """How many such events there are in the log."""
        return sum(event["event"] == name for event in self._events())

    async def until_said(self, name: str, times: int) -> None:
        async def is_said() -> bool:
            return self.said(name) >= times

        await until(is_said, seconds=90)

    def allowed(self) -> dict[str, int]:
        """Every decision to allow that is on record, and the worker that made it."""
        return {
            event["metadata"]["correlation_uid"]: worker
            for worker in WORKERS
            for event in _whole(self.audit_file(worker))
            if event["unmapped"]["event"] == "decision"
            and event["unmapped"]["decision"]["verdict"] == "allow"
        }

    def _events(self) -> list[dict[str, Any]]:
        return json_lines(self.folder / "service.err")


@contextlib.asynccontextmanager
async def workers(folder: Path) -> AsyncIterator[Workers]:
    """Runs them until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(World.running())
        upstream = await stack.enter_async_context(Recorder())
        stack.enter_context(secret_files(world, folder / "secrets"))
        configuration = folder / "envoy.yaml"
        configuration.write_text(_configuration(world, folder, upstream.port))
        command = [sys.executable, "-m", "ext_authz", "serve", str(configuration)]
        parent = await stack.enter_async_context(process("service", command, folder))
        front = f"http://127.0.0.1:{world.ports.front}"
        up = Workers(
            world=world, upstream=upstream, parent=parent, folder=folder, url=f"{front}/crm/mcp"
        )
        for worker in WORKERS:
            await until(functools.partial(service_serves, up.socket(worker)), seconds=90)
        await stack.enter_async_context(process("envoy", envoy_command(configuration), folder))
        await until(lambda: envoy_listens(front), seconds=90)
        yield up


def _configuration(world: World, folder: Path, upstream: int) -> str:
    """The shipped file, extended to two workers; the recorder at port `upstream` is the CRM."""
    tree = yaml.safe_load(shipped_yaml().read_text())
    settings = tree["node"]["metadata"]["mcp_ext_authz"]
    audit = {**settings["audit"], **SETTINGS["audit"]}
    settings.update({**SETTINGS, "audit": audit})
    for name in CLUSTERS:
        _cluster(tree, name)["load_assignment"].update(ENDPOINTS)
    tree = yaml.safe_load(relocated(yaml.safe_dump(tree), world, folder))
    (locality,) = _cluster(tree, "crm")["load_assignment"]["endpoints"]
    (crm,) = locality["lb_endpoints"]
    crm["endpoint"]["address"]["socket_address"]["port_value"] = upstream
    return yaml.safe_dump(tree)


@contextlib.asynccontextmanager
async def sticky(up: Workers) -> AsyncIterator[str]:
    """A second Envoy, which sends a user token to the same worker each time; gives the CRM's URL."""
    tree = yaml.safe_load((up.folder / "envoy.yaml").read_text())
    front = f"http://127.0.0.1:{(port := free_ports().front)}"
    tree["admin"]["address"]["pipe"]["path"] += ".sticky"
    (listener,) = tree["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    filters[0]["typed_config"]["grpc_service"].update(METADATA)
    filters[:0] = FILTER
    cluster = _cluster(tree, "mcp_ext_authz")
    del cluster["lb_policy"]
    cluster.update(BALANCING)
    configuration = up.folder / "sticky.yaml"
    configuration.write_text(yaml.safe_dump(tree))
    async with process("sticky", envoy_command(configuration), up.folder):
        await until(lambda: envoy_listens(front), seconds=90)
        yield f"{front}/crm/mcp"


def _cluster(tree: dict[str, Any], name: str) -> dict[str, Any]:
    clusters: list[dict[str, Any]] = tree["static_resources"]["clusters"]
    (cluster,) = (cluster for cluster in clusters if cluster["name"] == name)
    return cluster


def _whole(file: Path) -> Iterator[dict[str, Any]]:
    """Its records, but for what SIGKILL tore."""
    for line in file.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(orjson.JSONDecodeError):
            yield orjson.loads(line)


async def _warm(socket: Path, users: Sequence[Caller]) -> None:
    async with grpc.aio.insecure_channel(f"unix:{socket}", CONNECTING) as channel:
        for user in users:
            answer = await AuthorizationStub(channel).Check(
                tool_call("crm", user.token), timeout=10
            )
            assert answer.status.code == grpc.StatusCode.OK.value[0]


async def stopped(up: Workers) -> int:
    """Ends the service in order; gives its exit status."""
    up.parent.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        return await up.parent.wait()
