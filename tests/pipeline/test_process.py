"""The program as an operator starts and stops it: exit statuses, and what stands on stderr."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time as real_time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import CREDENTIALS
from tests.pipeline.gateway import Answer, Gateway
from tests.pipeline.gateway import gateway as not_yet_serving

ROOT = Path(__file__).parents[2]


def settings(directory: Path, idp: str, authorization_server: str) -> dict[str, Any]:
    return {
        "listen": f"unix:{directory}/check.sock",
        "identity_providers": [
            {
                "issuer": idp,
                "audience": ["hub"],
                "client": {
                    "id": "hub",
                    "auth": "client_secret_post",
                    "secret": {"env": "HUB_SECRET"},
                },
            }
        ],
        "authorization_servers": [
            {
                "issuer": authorization_server,
                "client": {
                    "id": "hub-at-server",
                    "auth": "client_secret_basic",
                    "secret": {"env": "SERVER_SECRET"},
                },
            }
        ],
        "servers": {
            "crm": {
                "url": "https://mcp.corp.example/crm",
                "resource": "https://crm.corp.example/mcp",
                "authorization_server": authorization_server,
            }
        },
        "audit": {"file": f"{directory}/audit.jsonl"},
    }


async def serve(file: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ext_authz",
        "serve",
        str(file),
        cwd=ROOT,
        env={**os.environ, **CREDENTIALS},
        stdout=PIPE,
        stderr=PIPE,
    )


async def said(process: Process, event: str) -> None:
    """Until the program has logged `event`."""
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while line := await process.stderr.readline():
            if json.loads(line)["event"] == event:
                return
    pytest.fail(f"it ended without having said {event}")


# ---- a service that runs


@pytest.fixture
async def world() -> AsyncIterator[Gateway]:
    """Doubles in the real time, which is the program's."""
    async with not_yet_serving(MovableTime(wall=real_time.time())) as gateway:
        yield gateway


@pytest.fixture
async def service(world: Gateway) -> AsyncIterator[Process]:
    directory = world.audit_file.parent
    file = directory / "settings.yaml"
    file.write_text(
        yaml.safe_dump(settings(directory, world.idp.issuer, world.authorization_server.issuer))
    )
    process = await serve(file)
    try:
        await said(process, "serving")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
async def test_a_service_that_is_told_to_stop_finishes_what_is_under_way(
    service: Process, world: Gateway, number: signal.Signals
) -> None:
    gate = asyncio.Event()
    world.idp.token.dial = Dial(gate=gate)

    async with grpc.aio.insecure_channel(world.settings.listen) as channel:
        call = AuthorizationStub(channel).Check(world.request(), timeout=30)
        await world.idp.token.called.wait()
        service.send_signal(number)
        await asyncio.sleep(0.2)  # it has had the time to drop the call by now
        gate.set()
        answer = Answer(await call)

    _, logs = await service.communicate()
    assert answer.is_allow
    assert service.returncode == 0
    assert json.loads(logs.splitlines()[-1])["event"] == "stopped"
    assert [record["decision_id"] for record in world.records()] == [answer.decision_id]


async def test_a_service_says_nothing_that_is_not_json_and_no_secret(
    service: Process, world: Gateway
) -> None:
    async with grpc.aio.insecure_channel(world.settings.listen) as channel:
        for message in (world.request(), world.request(token="opaque")):
            await AuthorizationStub(channel).Check(message, timeout=30)

    service.terminate()
    output, logs = await service.communicate()
    assert output == b""
    assert all(json.loads(line) for line in logs.splitlines())
    assert not any(secret.encode() in logs for secret in world.secrets())


# ---- a service that cannot


def replaced(key: str, value: object) -> dict[str, Any]:
    return {**settings(Path("/tmp"), "https://idp.example", "https://auth.example"), key: value}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, list[str]]]]:
    """Exit status and lines on stderr of services that could not start, by what was wrong."""
    directory = tmp_path_factory.mktemp("settings")
    with (
        tempfile.TemporaryDirectory() as sockets,
        socket.socket() as port,
        socket.socket(socket.AF_UNIX) as live,
    ):
        port.bind(("127.0.0.1", 0))
        port.listen()
        live.bind(f"{sockets}/live.sock")
        live.listen()
        wrong = {
            "port": replaced("listen", f"127.0.0.1:{port.getsockname()[1]}"),
            "socket": replaced("listen", f"unix:{sockets}/live.sock"),
            "directory": replaced("listen", "unix:/nowhere/check.sock"),
            "audit": replaced("audit", {"file": "/nowhere/audit.jsonl"}),
            "settings": {
                **replaced("listen", "0.0.0.0:9191"),
                "audit": {"fiel": "/tmp/audit.jsonl"},
                "surprise": True,
                "authorization_servers": [],
            },
        }
        files = {}
        for name, members in wrong.items():
            if members["audit"] == {"file": "/tmp/audit.jsonl"}:
                members["audit"] = {"file": f"{directory}/{name}.jsonl"}  # none is in another's way
            files[name] = directory / f"{name}.yaml"
            files[name].write_text(yaml.safe_dump(members, sort_keys=False))
        files["nothing"] = directory / "nothing.yaml"
        yield asyncio.run(_ends(files))


async def _ends(files: dict[str, Path]) -> dict[str, tuple[int, list[str]]]:
    return dict(
        zip(files, await asyncio.gather(*(_end(file) for file in files.values())), strict=True)
    )


async def _end(file: Path) -> tuple[int, list[str]]:
    process = await serve(file)
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert output == b""
    assert process.returncode is not None
    return process.returncode, errors.decode().splitlines()


Ended = dict[str, tuple[int, list[str]]]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("port", "Cannot listen on 127.0.0.1:"),
        ("socket", "Cannot listen on unix:"),
        ("directory", "Cannot listen on unix:/nowhere/check.sock: the directory /nowhere does"),
        ("audit", "The audit log cannot be used: cannot open /nowhere/audit.jsonl: No such file"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_sentence(
    ended: Ended, wrong: str, sentence: str
) -> None:
    status, lines = ended[wrong]

    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(sentence)
    assert lines[0].endswith(".")


def test_settings_with_faults_are_refused_with_all_of_them(ended: Ended) -> None:
    status, lines = ended["settings"]

    named = {line.split(": ")[1] for line in lines}
    assert status == 2
    assert named >= {"listen", "audit.file", "audit.fiel", "surprise", "authorization_servers"}
    assert all("settings.yaml:" in line for line in lines)


def test_settings_that_are_not_there_are_a_fault_too(ended: Ended) -> None:
    status, lines = ended["nothing"]

    assert status == 2
    assert len(lines) == 1
    assert "nothing.yaml" in lines[0]
