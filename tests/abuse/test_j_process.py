"""J. Process: hordes of connections, long runs, loose files, and what it is built of.

J6's audit for known vulnerabilities is `make audit-deps`: it asks the network.
"""

import asyncio
import contextlib
import gc
import json
import re
import resource
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ext_authz.settings.load import load_settings
from ext_authz.settings.yaml_cursor import SettingsInvalid
from tests.abuse.program import behind, program
from tests.abuse.raw_http2 import RawPeer
from tests.abuse.test_a_verdict import code_of
from tests.abuse.verdicts import Seen
from tests.doubles.signing_keys import signing_key
from tests.pipeline.gateway import Gateway
from tests.pipeline.test_life import socket_of
from tests.pipeline.test_process import ROOT, replaced, serve

IDLE = 1_000
STREAMS = 10_000
AT_ONCE = 1.0
BLOCKED_MILLISECONDS = 50

# ---- J1: connections and streams without end


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for a thousand sockets here, and in the program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def seconds_until_served(gateway: Gateway, token: str) -> float:
    """How long it takes until a call is allowed. Till then none is answered otherwise."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await gateway.call(token=token)
            assert answer.is_allow
            return time.monotonic() - began
        await asyncio.sleep(0.02)


async def test_j1_a_thousand_idle_connections_keep_nobody_waiting(
    credentials: None, many_files: None, seen: Seen
) -> None:
    async with behind() as gateway, program(gateway):
        token = gateway.sign_in()
        await gateway.call(token=token)
        with contextlib.ExitStack() as idle:
            for number in range(IDLE):
                peer = idle.enter_context(RawPeer(socket_of(gateway)))
                if number % 2:
                    peer.greet()
            waited = await seconds_until_served(gateway, token)

    assert waited < AT_ONCE
    seen("allow, at once")


async def test_j1_ten_thousand_streams_begun_and_reset_keep_others_waiting_for_a_moment(
    credentials: None, seen: Seen
) -> None:
    async with behind() as gateway, program(gateway) as process:
        token = gateway.sign_in()
        await gateway.call(token=token)
        with RawPeer(socket_of(gateway)) as peer:
            peer.greet()
            for _ in range(STREAMS // 100):
                await asyncio.to_thread(peer.begin_calls, 100, reset=True)
            waited = await seconds_until_served(gateway, token)
        still_runs = process.returncode is None
        verdicts = {record["verdict"] for record in gateway.records()}

    assert waited < 2 * AT_ONCE
    assert still_runs
    assert verdicts == {"allow"}
    seen("allow, within a second or two")


async def test_j1_ten_thousand_streams_begun_and_held_are_an_overload_until_their_peer_goes(
    credentials: None, seen: Seen
) -> None:
    """Decided: as in A6 others are refused at once, by gRPC. Nobody but Envoy reaches the socket."""
    async with behind() as gateway, program(gateway):
        token = gateway.sign_in()
        await gateway.call(token=token)
        with RawPeer(socket_of(gateway)) as peer:
            peer.greet()
            for _ in range(STREAMS // 100):
                await asyncio.to_thread(peer.begin_calls, 100, reset=False)
            began = time.monotonic()
            code = await code_of(gateway.call(token=token))
            answered_within = time.monotonic() - began
        waited = await seconds_until_served(gateway, token)

    assert code in {
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    assert answered_within < AT_ONCE
    assert waited < 2 * AT_ONCE
    seen("refused at once; then allow")


# ---- J2: the event loop


@pytest.fixture(scope="module")
def longest_steps() -> dict[str, float]:
    """The longest that one step held the loop, in ms, by what the service was loaded with."""
    return dict(json.loads(asyncio.run(_watched()).splitlines()[-1]))


async def _watched() -> bytes:
    command = [sys.executable, "-m", "tests.abuse.loop_watch"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


@pytest.mark.parametrize("load", ["exchanges", "bodies"])
def test_j2_no_step_holds_the_event_loop_for_long(
    longest_steps: dict[str, float], seen: Seen, load: str
) -> None:
    """Exchanges sign with an RSA key; bodies are a megabyte of whatever takes longest to read."""
    assert longest_steps[load] < BLOCKED_MILLISECONDS
    seen(f"{load}: at most {BLOCKED_MILLISECONDS} ms")


# ---- J3: a long run


def _held() -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "megabytes": pages * resource.getpagesize() // 2**20,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
    }


async def _soak(gateway: Gateway, requests: list[Any], rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.gather(*(gateway.check(request) for request in requests))
    await asyncio.sleep(0.2)  # the last answer is here before its task has ended


async def test_j3_after_thousands_of_checks_it_holds_no_more_than_before(
    gateway: Gateway, seen: Seen
) -> None:
    requests = [gateway.request() for _ in range(30)]
    requests += [gateway.request(token=None) for _ in range(10)]
    requests += [gateway.request(message="no JSON") for _ in range(10)]
    await _soak(gateway, requests, rounds=10)
    before = _held()
    await _soak(gateway, requests, rounds=40)
    after = _held()

    assert len(gateway.records()) == 50 * len(requests)
    assert after["descriptors"] <= before["descriptors"]
    assert after["tasks"] <= before["tasks"]
    assert after["megabytes"] <= before["megabytes"] + 4
    seen("descriptors, tasks, memory flat")


# ---- J4: where it listens

PUBLIC = ["0.0.0.0:9191", "[::]:9191", "10.0.0.7:9191", "mcp.corp.example:9191", "*:9191", ":9191"]


def _file(directory: Path, key: str, value: object) -> Path:
    file = directory / "settings.yaml"
    file.write_text(json.dumps(replaced(key, value)))
    return file


async def _refusal(file: Path) -> str:
    """The one line with which the program refuses to start."""
    process = await serve(file)
    _, errors = await process.communicate()
    (line,) = errors.decode().splitlines()
    assert process.returncode == 2
    return line


@pytest.mark.parametrize("listen", PUBLIC)
def test_j4_plaintext_on_anything_but_loopback_is_a_fault(
    credentials: None, tmp_path: Path, seen: Seen, listen: str
) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(str(_file(tmp_path, "listen", listen)))

    (fault,) = caught.value.faults
    assert fault.key == "listen"
    seen("refused at the start")


async def test_j4_with_such_a_fault_it_does_not_start(
    credentials: None, tmp_path: Path, seen: Seen
) -> None:
    line = await _refusal(_file(tmp_path, "listen", PUBLIC[0]))

    assert line.endswith(
        "listen: is not a loopback address. Listen on a Unix socket or on 127.0.0.1."
    )
    seen("exit 2")


# ---- J5: loose files


def _with_key(directory: Path, mode: int) -> Path:
    """Settings that refer to a key file with that mode."""
    key = directory / "hub.pem"
    key.write_text(signing_key("ES256", "hub").private_pem())
    key.chmod(mode)
    client = {"id": "hub", "auth": "private_key_jwt", "key": {"file": str(key)}}
    provider = {"issuer": "https://idp.example", "audience": ["hub"], "client": client}
    return _file(directory, "identity_providers", [provider])


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o401], ids=oct)
def test_j5_a_key_file_that_others_may_touch_is_a_fault(
    credentials: None, tmp_path: Path, seen: Seen, mode: int
) -> None:
    """Decided: the group may read, for that is how Kubernetes hands secrets to an unprivileged user."""
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(str(_with_key(tmp_path, mode)))

    (fault,) = caught.value.faults
    assert "chmod 0400" in str(fault)
    seen("refused at the start")


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440], ids=oct)
def test_j5_a_key_file_for_its_user_and_group_is_taken(
    credentials: None, tmp_path: Path, seen: Seen, mode: int
) -> None:
    assert load_settings(str(_with_key(tmp_path, mode)))
    seen("0400, 0440: taken")


async def test_j5_with_such_a_fault_it_does_not_start(
    credentials: None, tmp_path: Path, seen: Seen
) -> None:
    line = await _refusal(_with_key(tmp_path, 0o644))

    assert "hub.pem is open to others (mode 0644)" in line
    assert "PRIVATE KEY" not in line
    seen("exit 2")


# ---- J6: what it is built of

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PINNED = re.compile(
    r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[A-Za-z0-9.!+]+( ; .+)?( --hash=sha256:[0-9a-f]{64})+"
)


def _locked(file: Path) -> list[str]:
    """One line a requirement, without comments."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", file.read_text())
    return [" ".join(line.split()) for line in re.sub(r"\\\n", " ", text).splitlines() if line]


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: str(file.stem))
def test_j6_every_line_of_a_lock_has_a_version_and_hashes(seen: Seen, file: Path) -> None:
    lines = _locked(file)

    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    seen("pinned and hashed")


@pytest.mark.parametrize("recipe", ["Dockerfile", "Makefile"])
def test_j6_nothing_is_installed_but_from_a_lock_or_from_here(seen: Seen, recipe: str) -> None:
    installs = re.findall(r"pip (?:install|sync|wheel).*", (ROOT / recipe).read_text())

    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install, install
        assert "wheel" not in install or "--no-build-isolation" in install, install
    seen("no unpinned build")
