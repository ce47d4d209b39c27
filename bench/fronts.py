"""Envoys on the shipped configuration, each with another filter in the place of ours."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from bench.cores import GENERATOR
from bench.processes import started, up
from ext_authz.demo.front import envoy_command, envoy_listens, relocated, shipped_yaml
from ext_authz.demo.loopback import HOST
from ext_authz.demo.world import World

Tree: TypeAlias = dict[str, Any]
FILTERS_OF_OURS: Final = {"envoy.filters.http.ext_authz", "envoy.filters.http.rbac"}
ACCESS_LOG_OF_OURS: Final = "envoy.access_loggers.http_grpc"
CLUSTERS_OF_OURS: Final = {"mcp_ext_authz", "mcp_ext_authz_access_log"}


def asking(check_socket: Path) -> Callable[[Tree], None]:
    """As shipped: the filter asks the service on this socket, which also gets the access log."""

    def change(tree: Tree) -> None:
        for cluster in _clusters(tree):
            if cluster["name"] in CLUSTERS_OF_OURS:
                _move(cluster, {"pipe": {"path": str(check_socket)}})

    return change


def asking_floor(check_socket: Path) -> Callable[[Tree], None]:
    """The filter asks the floor, which answers Checks and nothing else."""

    def change(tree: Tree) -> None:
        asking(check_socket)(tree)
        _without_access_log(tree)
        for cluster in _clusters(tree):
            cluster.pop("health_checks", None)

    return change


def asking_nobody(tree: Tree) -> None:
    """Neither filter nor interlock: Envoy proxies, and that is all."""
    _without_access_log(tree)
    manager = _manager(tree)
    manager["http_filters"] = [
        each for each in manager["http_filters"] if each["name"] not in FILTERS_OF_OURS
    ]
    for host in manager["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            route.pop("typed_per_filter_config", None)


@asynccontextmanager
async def envoy(
    name: str,
    world: World,
    folder: Path,
    upstream: int,
    change: Callable[[Tree], None],
    server: str = "crm",
) -> AsyncIterator[tuple[str, int]]:
    """Runs an Envoy until the block ends, with the upstream in the place of `server`; gives its address."""
    port = free_port()
    own = folder / f"envoy-{name}"
    own.mkdir()
    tree = yaml.safe_load(relocated(shipped_yaml().read_text(), world, own))
    change(tree)
    _listener(tree)["address"]["socket_address"]["port_value"] = port
    for cluster in _clusters(tree):
        if cluster["name"] == server:
            _move(cluster, {"socket_address": {"address": HOST, "port_value": upstream}})
    (own / "envoy.yaml").write_text(yaml.safe_dump(tree))
    async with started("envoy", envoy_command(own / "envoy.yaml"), own, GENERATOR) as running:
        await up(running, own / "envoy.err", lambda: envoy_listens(f"http://{HOST}:{port}"))
        yield HOST, port


@asynccontextmanager
async def upstream(
    folder: Path, module: str = "bench.upstream", *arguments: str
) -> AsyncIterator[int]:
    """Runs an MCP server that takes no time until the block ends; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", module, str(port), *arguments]
    async with started("upstream", command, folder, GENERATOR) as running:
        await up(running, folder / "upstream.err", lambda: asyncio.to_thread(_listens, port))
        yield port


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _without_access_log(tree: Tree) -> None:
    manager = _manager(tree)
    manager["access_log"] = [
        each for each in manager["access_log"] if each["name"] != ACCESS_LOG_OF_OURS
    ]


def _move(cluster: Tree, address: Tree) -> None:
    (locality,) = cluster["load_assignment"]["endpoints"]
    locality["lb_endpoints"] = [{"endpoint": {"address": address}}]


def _clusters(tree: Tree) -> list[Tree]:
    clusters: list[Tree] = tree["static_resources"]["clusters"]
    return clusters


def _listener(tree: Tree) -> Tree:
    listener: Tree = tree["static_resources"]["listeners"][0]
    return listener


def _manager(tree: Tree) -> Tree:
    manager: Tree = _listener(tree)["filter_chains"][0]["filters"][0]["typed_config"]
    return manager
