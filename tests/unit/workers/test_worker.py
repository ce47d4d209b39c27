"""A worker that does not do as it should: real processes, though not of this program."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from ext_authz.cannot_serve import CannotServe
from ext_authz.workers import worker as module
from ext_authz.workers.plan import Plan, read_plan
from ext_authz.workers.worker import Worker
from tests.unit.workers.parent import Parent, is_alive

SLEEPS = "import time; time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); {SLEEPS}"


@pytest.fixture
def plan(tmp_path: Path, credentials: None) -> Plan:
    parent = Parent(tmp_path)
    parent.write()
    return read_plan(str(parent.file))


def runs(monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    """In a worker's place."""
    monkeypatch.setattr(module, "_command", lambda _number, _file: [*command])


async def test_one_that_ends_before_it_serves_is_told_of(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, sys.executable, "-c", "raise SystemExit(3)")
    worker = await Worker.start(1, plan)

    with pytest.raises(CannotServe, match="Worker 1 ended before it served, with exit status 3"):
        await worker.until_serving(f"unix:{tmp_path}/check-1.sock")


async def test_one_that_never_serves_is_ended(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, sys.executable, "-c", SLEEPS)
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    worker = await Worker.start(2, plan)

    with pytest.raises(CannotServe, match=r"Worker 2 was not serving after 0\.2 seconds"):
        await worker.until_serving(f"unix:{tmp_path}/check-2.sock")
    assert not is_alive(worker.pid)


async def test_one_that_does_not_stop_in_time_is_ended(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, sys.executable, "-c", DEAF)
    worker = await Worker.start(1, plan)
    while not _is_deaf(worker.pid):  # noqa: ASYNC110 - a process has no event
        await asyncio.sleep(0.01)

    assert await worker.stop(0.2) == -signal.SIGKILL
    assert not is_alive(worker.pid)
    assert await worker.stop(0.2) == -signal.SIGKILL


async def test_a_program_that_is_not_there_is_told_of(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, "/nowhere/python")

    with pytest.raises(CannotServe, match="Worker 1 cannot be started: No such file or directory"):
        await Worker.start(1, plan)


def test_modules_are_looked_for_in_the_current_folder_only_if_the_parent_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = module._command(1, "envoy.yaml")
    monkeypatch.chdir(tmp_path)
    elsewhere = module._command(1, "envoy.yaml")

    assert here == [sys.executable, *["-m", "ext_authz", "serve", "envoy.yaml", "--worker", "1"]]
    assert elsewhere == [sys.executable, "-P", *here[1:]]


def _is_deaf(pid: int) -> bool:
    """Whether SIGTERM is ignored by now."""
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    return bool(ignored >> (signal.SIGTERM - 1) & 1)
