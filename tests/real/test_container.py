"""The container image: built from the lock, run as nobody on a read-only root, answering a Check.

Needs a Docker engine.
"""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from bench.load import METHOD, Ask
from bench.requests import tool_call
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.demo.front import relocated, secret_files, service_serves, shipped_yaml
from ext_authz.demo.world import World
from tests.doubles.audit_records import records_in
from tests.real.docker_engine import docker

IMAGE = "mcp-ext-authz:test"
NOBODY = 65532
SECONDS = 30


@pytest.fixture(scope="module")
def the_image() -> str:
    docker("build", "--network", "host", "--quiet", "--tag", IMAGE, ".")
    return IMAGE


@pytest.fixture(scope="module")
def a_world() -> Iterator[World]:
    with World.in_thread() as world:
        yield world


@pytest.fixture
def a_container(the_image: str, a_world: World) -> Iterator[tuple[str, Path]]:
    """The running container's id, and the folder that it shares with its Envoy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "envoy.yaml").write_text(relocated(shipped_yaml().read_text(), a_world, folder))
        with secret_files(a_world, folder / "secrets"):
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            container = docker(
                "run", *_confined(folder), the_image, "serve", f"{folder}/envoy.yaml"
            )
            try:
                asyncio.run(_until_it_serves(container, folder / "check.sock"))
                yield container, folder
            finally:
                docker("rm", "--force", container)


def _confined(folder: Path) -> list[str]:
    # on the host's network, because the demo world listens on its loopback
    limits = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    return ["--detach", "--network", "host", *limits, "--volume", f"{folder}:{folder}"]


@pytest.mark.timeout(600)  # it builds the image
async def test_the_container_answers_a_check(a_container: tuple[str, Path], a_world: World) -> None:
    _, folder = a_container

    async with grpc.aio.insecure_channel(f"unix:{folder}/check.sock") as channel:
        ask: Ask = channel.unary_unary(METHOD)
        answer = await ask(tool_call("crm", a_world.sign_in("alice")).SerializeToString())
    response = CheckResponse.FromString(answer)

    assert response.HasField("ok_response")
    (record,) = records_in(folder / "audit.jsonl")
    assert record["verdict"] == "allow"


def test_it_runs_as_nobody_on_a_root_that_it_cannot_write(a_container: tuple[str, Path]) -> None:
    container, _ = a_container
    seen = json.loads(docker("inspect", container))[0]

    status = docker("exec", container, "cat", "/proc/1/status")
    written = subprocess.run(
        ["docker", "exec", container, "touch", "/opt/mcp-ext-authz/x"], check=False
    )

    assert f"Uid:\t{NOBODY}\t{NOBODY}" in status
    assert "CapEff:\t0000000000000000" in status
    assert seen["HostConfig"]["ReadonlyRootfs"] is True
    assert written.returncode != 0


def test_the_image_holds_no_compiler_and_no_installer(the_image: str) -> None:
    found = docker(
        "run", "--rm", "--entrypoint", "sh", the_image, "-c", "ls /opt/mcp-ext-authz/bin"
    )

    assert "mcp-ext-authz" in found.split()
    assert not {"pip", "pip3", "uv", "gcc"} & set(found.split())


def test_it_stops_in_order(a_container: tuple[str, Path]) -> None:
    container, _ = a_container

    docker("stop", "--time", str(SECONDS), container)

    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"


async def _until_it_serves(container: str, socket: Path) -> None:
    for _ in range(SECONDS * 10):
        if await service_serves(socket):
            return
        await asyncio.sleep(0.1)
    pytest.fail(docker("logs", container))
