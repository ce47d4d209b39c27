"""The copy on standard output: whole lines in order, and never a reason for the log to wait."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from ext_authz.audit.chain_file import ChainFile
from ext_authz.audit.log import AuditLog
from ext_authz.audit.stdout_sink import StdoutSink
from ext_authz.clock import Clock
from tests.doubles.audit_settings import quiet

SOON = 10.0
REPOSITORY = Path(__file__).parents[3]
Log = list[MutableMapping[str, Any]]


@dataclass
class Pipe:
    """Both ends; `read` gives what is there, and waits for something."""

    out: int
    into: int

    def read(self, least: int) -> bytes:
        data = b""
        while len(data) < least and (block := os.read(self.out, 1 << 16)):
            data += block
        return data


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())
    yield pipe
    for descriptor in (pipe.out, pipe.into):
        with contextlib.suppress(OSError):
            os.close(descriptor)


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
    sink = StdoutSink(pipe.into)
    for line in lines(50):
        sink.offer(line)

    assert pipe.read(50_000) == b"".join(lines(50))
    sink.close()
    assert log == []


def test_a_reader_that_stands_still_holds_nobody_up(pipe: Pipe, log: Log) -> None:
    sink = StdoutSink(pipe.into, max_bytes=100_000)
    before = time.monotonic()
    for line in lines(2000):
        sink.offer(line)
    took = time.monotonic() - before
    until(lambda: log)

    assert took < 1.0
    assert names(log) == ["audit_stdout_dropping"]
    os.close(pipe.out)


def test_what_was_dropped_is_told_of_when_the_reader_is_back(pipe: Pipe, log: Log) -> None:
    sink = StdoutSink(pipe.into, max_bytes=100_000)
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
    sink = StdoutSink(pipe.into, max_bytes=100_000)
    for line in lines(1000):
        sink.offer(line)
    pipe.read(100_000)
    until(lambda: "audit_stdout_recovered" in names(log))
    sink.offer(b"after\n")
    sink.close()
    os.close(pipe.into)

    assert pipe.read(10**9).endswith(b"after\n")


def test_a_group_larger_than_the_bound_goes_out_alone(pipe: Pipe) -> None:
    sink = StdoutSink(pipe.into, max_bytes=10)
    sink.offer(b"".join(lines(5)))

    assert pipe.read(5000) == b"".join(lines(5))


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe, log: Log) -> None:
    os.set_blocking(pipe.into, False)
    sink = StdoutSink(pipe.into)
    for line in lines(500):
        sink.offer(line)

    assert pipe.read(500_000) == b"".join(lines(500))
    assert log == []


def test_a_reader_that_has_gone_is_told_of_once(pipe: Pipe, log: Log) -> None:
    os.close(pipe.out)
    sink = StdoutSink(pipe.into)
    for line in lines(50):
        sink.offer(line)
    sink.close()

    assert names(log) == ["audit_stdout_dropping"]


def test_closing_writes_what_waits(pipe: Pipe) -> None:
    sink = StdoutSink(pipe.into)
    for line in lines(30):
        sink.offer(line)
    sink.close(seconds=SOON)
    os.close(pipe.into)

    assert pipe.read(10**9) == b"".join(lines(30))


def test_closing_waits_for_nobody_for_long(pipe: Pipe) -> None:
    sink = StdoutSink(pipe.into)
    for line in lines(200):
        sink.offer(line)
    before = time.monotonic()
    sink.close(seconds=0.1)
    sink.offer(b"late\n")

    assert time.monotonic() - before < SOON
    os.close(pipe.out)


async def test_the_log_goes_on_while_nobody_reads(pipe: Pipe, tmp_path: Path) -> None:
    sink = StdoutSink(pipe.into, max_bytes=1000)
    audit = AuditLog(quiet(tmp_path / "audit.jsonl"), Clock(), sinks=[sink])
    event = {"name": "x" * 500, "unmapped": {"event": "decision"}}
    for _ in range(500):
        await audit.append(event, seconds=SOON)
    await audit.close()

    assert (tmp_path / "audit.jsonl").read_bytes().count(b"x" * 500) == 500
    os.close(pipe.out)


def test_the_copy_is_the_file_byte_for_byte(pipe: Pipe, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    chain = ChainFile(quiet(file), None, Clock())
    sink = StdoutSink(pipe.into)
    for _ in range(20):
        sink.offer(chain.write([b'{"name":"x","unmapped":{"event":"decision"}}']))
    whole = file.read_bytes()
    chain.close()

    assert pipe.read(len(whole)) == whole


def test_a_process_whose_stdout_nobody_reads_still_ends() -> None:
    """Its threads are daemons: neither the pipe nor what waits for it keeps the process."""
    program = (
        "from ext_authz.audit.stdout_sink import StdoutSink\n"
        "sink = StdoutSink()\n"
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
