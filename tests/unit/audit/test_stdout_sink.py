"""The copy on standard output: whole lines in order, and never a reason for the log to wait."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from ext_authz.audit.chain_file import ChainFile
from ext_authz.audit.log import AuditLog
from ext_authz.audit.stdout_sink import StdoutSink, copied_to_stdout
from ext_authz.clock import Clock
from tests.doubles.audit_settings import quiet
from tests.unit.audit.chains import whole_lines

SOON = 30.0
REPOSITORY = Path(__file__).parents[3]
Log = list[MutableMapping[str, Any]]


@dataclass
class Pipe:
    """Both ends, and the sinks that write into it."""

    out: int
    into: int
    sinks: list[StdoutSink] = field(default_factory=list)

    def sink(self, **options: int) -> StdoutSink:
        self.sinks.append(StdoutSink(self.into, **options))
        return self.sinks[-1]

    def read(self, least: int) -> bytes:
        """What is there; it waits for so many bytes, or for the end."""
        data = b""
        while len(data) < least and (block := os.read(self.out, 1 << 16)):
            data += block
        return data


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Its sinks have ended before its numbers are given to others."""
    pipe = Pipe(*os.pipe())
    yield pipe
    with contextlib.suppress(OSError):
        os.close(pipe.out)  # whoever writes gets EPIPE
    for sink in pipe.sinks:
        sink.close(seconds=SOON)
        assert not sink._thread.is_alive()
    with contextlib.suppress(OSError):
        os.close(pipe.into)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def lines(number: int, size: int = 1000) -> list[bytes]:
    return [b"%0*d\n" % (size - 1, index) for index in range(number)]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def names(log: Log) -> list[object]:
    return [entry["event"] for entry in log]


def test_lines_come_out_in_order(pipe: Pipe, log: Log) -> None:
    sink = pipe.sink()
    for line in lines(50):
        sink.offer(line)

    assert pipe.read(50_000) == b"".join(lines(50))
    sink.close()
    assert log == []


def test_a_reader_that_stands_still_holds_nobody_up(pipe: Pipe, log: Log) -> None:
    sink = pipe.sink(max_bytes=100_000)
    before = time.monotonic()
    for line in lines(2000):
        sink.offer(line)
    took = time.monotonic() - before
    until(lambda: log)

    assert took < SOON
    assert names(log) == ["audit_stdout_dropping"]


def test_what_was_dropped_is_told_of_when_the_reader_is_back(pipe: Pipe, log: Log) -> None:
    sink = pipe.sink(max_bytes=100_000)
    sent = lines(1000)
    for line in sent:
        sink.offer(line)
    received = pipe.read(100_000)
    until(lambda: "audit_stdout_recovered" in names(log))
    os.set_blocking(pipe.out, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            received += os.read(pipe.out, 1 << 16)

    found = received.splitlines(keepends=True)
    assert set(found) <= set(sent)
    assert found == sorted(found)
    assert log[-1]["dropped"] == len(sent) - len(found) > 0


def test_after_that_lines_come_out_again(pipe: Pipe, log: Log) -> None:
    sink = pipe.sink(max_bytes=100_000)
    for line in lines(1000):
        sink.offer(line)
    pipe.read(100_000)
    until(lambda: "audit_stdout_recovered" in names(log))
    sink.offer(b"after\n")
    sink.close()
    os.close(pipe.into)

    assert pipe.read(10**9).endswith(b"after\n")


def test_a_group_larger_than_the_bound_goes_out_alone(pipe: Pipe) -> None:
    sink = pipe.sink(max_bytes=10)
    sink.offer(b"".join(lines(5)))

    assert pipe.read(5000) == b"".join(lines(5))


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe, log: Log) -> None:
    os.set_blocking(pipe.into, False)
    sink = pipe.sink()
    for line in lines(500):
        sink.offer(line)

    assert pipe.read(500_000) == b"".join(lines(500))
    assert log == []


def test_a_reader_that_has_gone_is_told_of_once(pipe: Pipe, log: Log) -> None:
    os.close(pipe.out)
    sink = pipe.sink()
    for line in lines(50):
        sink.offer(line)
    sink.close()

    assert names(log) == ["audit_stdout_dropping"]


def test_closing_writes_what_waits(pipe: Pipe) -> None:
    sink = pipe.sink()
    for line in lines(30):
        sink.offer(line)
    sink.close(seconds=SOON)
    os.close(pipe.into)

    assert pipe.read(10**9) == b"".join(lines(30))


def test_closing_waits_for_nobody_for_long(pipe: Pipe) -> None:
    sink = pipe.sink()
    for line in lines(200):
        sink.offer(line)
    before = time.monotonic()
    sink.close(seconds=0.1)
    sink.offer(b"late\n")

    assert time.monotonic() - before < SOON
    assert sink._thread.is_alive()  # it waits for the reader, and we do not wait for it


async def test_the_log_goes_on_while_nobody_reads(pipe: Pipe, tmp_path: Path) -> None:
    sink = pipe.sink(max_bytes=1000)
    audit = AuditLog(quiet(tmp_path / "audit.jsonl"), Clock(), sinks=[sink])
    event = {"name": "x" * 500, "unmapped": {"event": "decision"}}
    for _ in range(500):
        await audit.append(event, seconds=SOON)
    await audit.close()

    assert (tmp_path / "audit.jsonl").read_bytes().count(b"x" * 500) == 500


def test_the_copy_is_the_file_byte_for_byte(pipe: Pipe, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    chain = ChainFile(quiet(file), None, Clock())
    sink = pipe.sink()
    for _ in range(20):
        sink.offer(chain.write([b'{"name":"x","unmapped":{"event":"decision"}}']))
    whole = file.read_bytes()
    chain.close()

    assert pipe.read(len(whole)) == whole


async def test_it_is_there_while_the_block_runs_if_it_is_asked_for(
    pipe: Pipe, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ext_authz.audit.stdout_sink._STDOUT", pipe.into)
    settings = quiet(file, stdout=True)
    async with copied_to_stdout(settings) as sinks:
        audit = AuditLog(settings, Clock(), sinks=sinks)
        await audit.append({"name": "x", "unmapped": {"event": "decision"}}, seconds=SOON)
        await audit.close()
    os.close(pipe.into)

    assert pipe.read(10**9) == b"\n".join([*whole_lines(file), b""])


async def test_it_is_not_there_unless_it_is_asked_for(tmp_path: Path) -> None:
    before = threading.active_count()
    async with copied_to_stdout(quiet(tmp_path / "audit.jsonl")) as sinks:
        assert sinks == []
        assert threading.active_count() == before


def test_a_process_whose_stdout_nobody_reads_still_ends() -> None:
    """Its threads are daemons: neither the pipe nor what waits for it keeps the process."""
    program = (
        "from ext_authz.audit.stdout_sink import StdoutSink\n"
        "sink = StdoutSink(1)\n"
        "for _ in range(300): sink.offer(b'x' * 999 + b'\\n')\n"
        "sink.close(seconds=0.1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    try:
        assert process.wait(SOON * 3) == 0
    finally:
        process.kill()
        process.communicate()
