"""The audit log: nobody is told of a record that is not durable, and nobody waits for ever."""

import asyncio
import os
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from ext_authz.audit import log as log_module
from ext_authz.audit.chain_file import CannotWrite, ChainFile
from ext_authz.audit.log import AuditLog, AuditOverloaded, AuditSlow, AuditUnavailable
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import AuditSettings, Checkpoints, Durability
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.movable_time import MovableTime
from tests.unit.audit.chains import (
    assert_one_chain,
    data_of,
    events_in,
    kinds_in,
    names_in,
    whole_lines,
)

SOON = 5.0
OpenLog = Callable[..., AuditLog]


def named(name: str) -> Mapping[str, Any]:
    return {"name": name, "unmapped": {"event": "decision"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def time() -> MovableTime:
    return MovableTime()


@pytest.fixture
async def open_log(file: Path, time: MovableTime) -> AsyncIterator[OpenLog]:
    opened: list[AuditLog] = []

    def open_it(settings: AuditSettings | None = None, **parts: Any) -> AuditLog:
        opened.append(AuditLog(settings or quiet(file), time.clock, **parts))
        return opened[-1]

    yield open_it
    for log in opened:
        await log.close()


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """A limit at which the kernel cuts a write short, and refuses the next."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Disk:
    """A disk that can be held up: writes wait at the gate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.groups: list[int] = []
        write = ChainFile.write

        def held_up(chain: ChainFile, events: Sequence[bytes]) -> bytes:
            self.groups.append(len(events))
            assert self.gate.wait(30)
            return write(chain, events)

        monkeypatch.setattr(ChainFile, "write", held_up)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.gate.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - it looks at a file, or at another thread
            await asyncio.sleep(0.001)


# ---- durable, then told


async def test_a_record_is_in_the_file_once_append_returns(file: Path, open_log: OpenLog) -> None:
    log = open_log()
    for name in ("a", "b", "c"):
        await log.append(named(name), seconds=SOON)

        assert names_in(file)[-1] == name
    assert_one_chain(whole_lines(file))


async def test_what_comes_while_a_group_is_written_makes_the_next(
    file: Path, open_log: OpenLog, disk: Disk
) -> None:
    log = open_log()
    disk.gate.clear()
    waiting = [asyncio.create_task(log.append(named("0"), seconds=SOON))]
    await until(lambda: disk.groups == [1])
    waiting += [asyncio.create_task(log.append(named(f"{n}"), seconds=SOON)) for n in range(1, 51)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    disk.gate.set()
    await asyncio.gather(*waiting)

    assert disk.groups == [1, 50]
    assert names_in(file) == [f"{n}" for n in range(51)]


async def test_synced_syncs_once_a_group(
    file: Path, open_log: OpenLog, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(len(names_in(file))))
    log = open_log(quiet(file, durability=Durability.SYNCED))
    disk.gate.clear()
    waiting = [asyncio.create_task(log.append(named("0"), seconds=SOON))]
    await until(lambda: disk.groups == [1])
    waiting += [asyncio.create_task(log.append(named(f"{n}"), seconds=SOON)) for n in range(1, 21)]
    await asyncio.sleep(0.01)
    disk.gate.set()
    await asyncio.gather(*waiting)

    assert synced == [1, 21]


async def test_the_loop_goes_on_while_the_disk_hangs(open_log: OpenLog, disk: Disk) -> None:
    log = open_log()
    disk.gate.clear()
    waiting = asyncio.create_task(log.append(named("a"), seconds=SOON))
    await until(lambda: disk.groups == [1])
    for _ in range(100):
        await asyncio.sleep(0)

    assert not waiting.done()
    disk.gate.set()
    await waiting


# ---- slow, hanging, overloaded


async def test_who_waits_too_long_is_told(open_log: OpenLog, disk: Disk) -> None:
    log = open_log()
    disk.gate.clear()

    with pytest.raises(AuditSlow):
        await log.append(named("a"), seconds=0.05)
    disk.gate.set()


async def test_a_hanging_disk_is_told_at_once_to_who_comes_later(
    open_log: OpenLog, disk: Disk, time: MovableTime
) -> None:
    log = open_log()
    disk.gate.clear()
    entry = log.enter(named("a"))
    await until(lambda: entry.is_taken)
    time.passes(log_module.HANG_SECONDS + 0.1)

    with pytest.raises(AuditSlow):
        log.enter(named("b"))
    disk.gate.set()
    await entry.durable(seconds=SOON)
    await log.append(named("c"), seconds=SOON)


async def test_a_full_queue_is_told_at_once(file: Path, open_log: OpenLog, disk: Disk) -> None:
    log = open_log(max_queued=3)
    disk.gate.clear()
    first = log.enter(named("0"))
    await until(lambda: first.is_taken)
    entries = [log.enter(named(f"{n}")) for n in (1, 2, 3)]

    with pytest.raises(AuditOverloaded):
        log.enter(named("4"))
    disk.gate.set()
    for entry in (first, *entries):
        await entry.durable(seconds=SOON)
    await log.append(named("5"), seconds=SOON)

    assert names_in(file) == ["0", "1", "2", "3", "5"]
    assert data_of("lost", file)["records"] == 1


async def test_what_can_wait_waits_for_half_of_the_queue(open_log: OpenLog, disk: Disk) -> None:
    log = open_log(max_queued=4)
    disk.gate.clear()
    first = log.enter(named("0"))
    await until(lambda: first.is_taken)
    for n in (1, 2):
        log.enter(named(f"{n}"))
    waiting = asyncio.create_task(log.room())
    await asyncio.sleep(0.02)

    assert not waiting.done()
    disk.gate.set()
    async with asyncio.timeout(SOON):
        await waiting


# ---- amending


async def test_a_record_that_still_waits_is_replaced(
    file: Path, open_log: OpenLog, disk: Disk
) -> None:
    log = open_log()
    disk.gate.clear()
    first = log.enter(named("first"))
    await until(lambda: first.is_taken)
    entry = log.enter(named("allow"))
    log.amend(entry, instead=named("deny"), correction=named("correction"))
    disk.gate.set()
    await entry.durable(seconds=SOON)

    assert names_in(file) == ["first", "deny"]


async def test_a_record_on_its_way_is_followed_by_a_correction(
    file: Path, open_log: OpenLog, disk: Disk
) -> None:
    log = open_log()
    disk.gate.clear()
    entry = log.enter(named("allow"))
    await until(lambda: entry.is_taken)
    log.amend(entry, instead=named("deny"), correction=named("correction"))
    disk.gate.set()
    await log.close()

    assert names_in(file) == ["allow", "correction"]


# ---- failing, and again well


async def test_of_what_is_lost_there_is_nothing_to_correct(open_log: OpenLog) -> None:
    log = open_log(quiet("/dev/full"))
    entry = log.enter(named("a"))
    with pytest.raises(AuditUnavailable):
        await entry.durable(seconds=SOON)

    log.amend(entry, instead=named("deny"), correction=named("correction"))

    assert log._lost == 1
    assert not log._queue


async def test_corrections_are_bounded_too_and_counted_where_there_is_no_room(
    file: Path, open_log: OpenLog, disk: Disk
) -> None:
    log = open_log(max_queued=1)
    disk.gate.clear()
    entry = log.enter(named("a"))
    await until(lambda: entry.is_taken)
    for _ in range(3):
        log.amend(entry, instead=named("deny"), correction=named("correction"))
    disk.gate.set()
    await entry.durable(seconds=SOON)
    await until(lambda: not log._queue)
    await log.append(named("b"), seconds=SOON)

    assert names_in(file) == ["a", "correction", "correction", "b"]
    assert data_of("lost", file)["records"] == 1


async def test_a_correction_that_cannot_be_encoded_is_counted_as_lost(
    file: Path, open_log: OpenLog
) -> None:
    log = open_log()
    entry = log.enter(named("a"))

    log.amend(entry, instead={"name": object()}, correction={"name": object()})
    await entry.durable(seconds=SOON)

    assert data_of("lost", file)["records"] == 1


async def test_who_was_told_is_not_told_otherwise(open_log: OpenLog) -> None:
    entry = open_log().enter(named("a"))
    await entry.durable(seconds=SOON)

    entry.settle("too late")

    await entry.durable(seconds=SOON)


async def test_a_failing_disk_is_told_to_each_who_waits_and_it_recovers(
    file: Path, open_log: OpenLog
) -> None:
    log = open_log()
    await log.append(named("a"), seconds=SOON)
    with structlog.testing.capture_logs() as logs:
        with room_for(size_of(file) + 10):
            results = await asyncio.gather(
                *(log.append(named(f"{n}"), seconds=SOON) for n in range(5)), return_exceptions=True
            )
        await log.append(named("b"), seconds=SOON)

    assert [type(result) for result in results] == [AuditUnavailable] * 5
    assert {str(result) for result in results} == {f"{file}: File too large"}
    assert names_in_whole(file) == ["a", "b"]
    assert [entry["event"] for entry in logs] == ["audit_unavailable", "audit_recovered"]


def size_of(file: Path) -> int:
    return file.stat().st_size


def names_in_whole(file: Path) -> list[str]:
    """Leaves the torn line out."""
    whole = file.with_name("whole")
    lines = [line for line in file.read_bytes().split(b"\n") if line.endswith(b"}}}")]
    assert_one_chain(lines)
    whole.write_bytes(b"".join(line + b"\n" for line in lines))
    assert data_of("lost", whole)["records"] == 5
    return names_in(whole)


async def test_the_alarm_is_one_while_the_fault_lasts(open_log: OpenLog) -> None:
    log = open_log(quiet("/dev/full"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(AuditUnavailable, match="No space left on device"):
                await log.append(named("a"), seconds=SOON)

    assert [entry["event"] for entry in logs] == ["audit_unavailable"]


async def test_of_a_group_that_is_cut_short_those_in_the_file_stand(
    file: Path, open_log: OpenLog, disk: Disk
) -> None:
    log = open_log()
    await log.append(named("a"), seconds=SOON)
    size = size_of(file)
    await log.append(named("b"), seconds=SOON)
    line = size_of(file) - size
    with room_for(size_of(file) + 2 * line + line // 2):
        results = await asyncio.gather(
            *(log.append(named(f"{n}"), seconds=SOON) for n in range(4)), return_exceptions=True
        )

    assert [type(result) for result in results] == [type(None)] * 2 + [AuditUnavailable] * 2


async def test_an_unforeseen_fault_is_told_and_not_what_it_says(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_chain: ChainFile, _events: Sequence[bytes]) -> bytes:
        raise ValueError("a secret")

    monkeypatch.setattr(ChainFile, "write", broken)
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(AuditUnavailable, match=r"^ValueError$"),
    ):
        await open_log().append(named("a"), seconds=SOON)

    assert "a secret" not in str(logs)


async def test_a_record_that_cannot_be_encoded_is_a_fault_and_leaves_no_trace(
    file: Path, open_log: OpenLog
) -> None:
    log = open_log()
    with pytest.raises(AuditUnavailable, match="cannot be encoded"):
        log.enter(named("\ud800"))
    await log.append(named("a"), seconds=SOON)

    assert names_in(file) == ["a"]


def test_a_file_that_cannot_be_opened_is_a_fault_at_the_start(
    tmp_path: Path, time: MovableTime
) -> None:
    with pytest.raises(AuditUnavailable, match=r"^cannot open .*: No such file"):
        AuditLog(quiet(tmp_path / "none" / "audit.jsonl"), time.clock)


def test_a_signing_key_that_is_gone_is_a_fault_at_the_start(file: Path, time: MovableTime) -> None:
    gone = SecretSource(file=str(file) + ".pem")

    with pytest.raises(AuditUnavailable, match=r"^the signing key: cannot read"):
        AuditLog(quiet(file, signing_key=gone), time.clock)


# ---- closing, checkpoints, sinks


async def test_closing_writes_what_is_queued(file: Path, open_log: OpenLog) -> None:
    log = open_log()
    for n in range(10):
        log.enter(named(f"{n}"))
    await log.close()

    assert names_in(file) == [f"{n}" for n in range(10)]
    assert kinds_in(file)[-1] == "checkpoint"


async def test_after_it_is_closed_nothing_is_taken(file: Path, open_log: OpenLog) -> None:
    log = open_log()
    await log.close()
    before = names_in(file)

    with pytest.raises(AuditUnavailable, match="closed"):
        log.enter(named("a"))
    assert names_in(file) == before


async def test_a_disk_that_hangs_holds_no_closing_up(
    open_log: OpenLog, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "CLOSE_SECONDS", 0.05)
    log = open_log()
    disk.gate.clear()
    log.enter(named("a"))
    async with asyncio.timeout(SOON):
        await log.close()
    disk.gate.set()


async def test_the_chain_is_signed_every_so_many_seconds(file: Path, open_log: OpenLog) -> None:
    log = open_log(quiet(file, checkpoints=Checkpoints(records=10**9, seconds=0.02, file=None)))
    keeping = asyncio.create_task(log.keep_checkpoints())
    await until(lambda: kinds_in(file).count("checkpoint") == 1)
    await asyncio.sleep(0.1)
    assert kinds_in(file) == ["opened", "checkpoint"]
    await log.append(named("a"), seconds=SOON)
    await until(lambda: kinds_in(file).count("checkpoint") == 2)
    keeping.cancel()

    assert kinds_in(file) == ["opened", "checkpoint", "decision", "checkpoint"]


async def test_a_checkpoint_that_fails_is_an_alarm_and_the_next_is_tried(
    open_log: OpenLog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def fail(_chain: ChainFile) -> bytes:
        tries.append(1)
        raise CannotWrite("full")

    monkeypatch.setattr(ChainFile, "checkpoint", fail)
    log = open_log(quiet(file, checkpoints=Checkpoints(records=10**9, seconds=0.01, file=None)))
    with structlog.testing.capture_logs() as logs:
        keeping = asyncio.create_task(log.keep_checkpoints())
        await until(lambda: len(tries) > 2)
        keeping.cancel()

    assert [entry["event"] for entry in logs] == ["audit_unavailable"]


async def test_a_sink_gets_every_line_that_is_in_the_file(file: Path, open_log: OpenLog) -> None:
    class Keeps:
        def __init__(self) -> None:
            self.lines = b""

        def offer(self, lines: bytes) -> None:
            self.lines += lines

    sink = Keeps()
    log = open_log(
        quiet(file, checkpoints=Checkpoints(records=2, seconds=NEVER, file=None)), sinks=[sink]
    )
    for n in range(5):
        await log.append(named(f"{n}"), seconds=SOON)

    assert sink.lines.splitlines() == whole_lines(file)
    assert len(events_in(file)) > 6
