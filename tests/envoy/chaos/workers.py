"""Two workers of one service behind a real Envoy: the shipped envoy.yaml, both of them its endpoints."""

import asyncio
import contextlib
import functools
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
from ext_authz.demo.world import World
from tests.envoy.chaos.gateway import CONNECTING, until
from tests.envoy.chaos.load import Caller
from tests.envoy.recorder import Recorder

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

    def allowed(self) -> set[str]:
        """Every decision to allow that is on record."""
        events = [event for worker in WORKERS for event in _whole(self.audit_file(worker))]
        return {
            event["metadata"]["correlation_uid"]
            for event in events
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
    """The shipped file, as an operator extends it to two workers; the recorder is the CRM."""
    tree = yaml.safe_load(relocated(shipped_yaml().read_text(), world, folder))
    settings = tree["node"]["metadata"]["mcp_ext_authz"]
    settings["workers"] = len(WORKERS)
    settings["listen"] = f"unix:{folder}/check-{{worker}}.sock"
    settings["audit"]["file"] = f"{folder}/audit-{{worker}}.jsonl"
    clusters = {cluster["name"]: cluster for cluster in tree["static_resources"]["clusters"]}
    for name in CLUSTERS:
        _endpoints(clusters[name])[:] = [
            {"endpoint": {"address": {"pipe": {"path": f"{folder}/check-{worker}.sock"}}}}
            for worker in WORKERS
        ]
    (crm,) = _endpoints(clusters["crm"])
    crm["endpoint"]["address"]["socket_address"]["port_value"] = upstream
    return yaml.safe_dump(tree)


def _whole(file: Path) -> Iterator[dict[str, Any]]:
    """Its records, but for what SIGKILL tore."""
    for line in file.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(orjson.JSONDecodeError):
            yield orjson.loads(line)


def _endpoints(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    (locality,) = cluster["load_assignment"]["endpoints"]
    endpoints: list[dict[str, Any]] = locality["lb_endpoints"]
    return endpoints


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
