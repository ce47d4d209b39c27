"""The OTLP sink against a receiver that fails in every way: at least once, in order, nothing told."""

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog

from ext_authz.audit.chain import unlink
from ext_authz.audit.chain_file import ChainFile
from ext_authz.audit.log import AuditLog
from ext_authz.audit.otlp.position import position_file
from ext_authz.audit.otlp.sink import OtlpSink
from ext_authz.clock import Clock
from ext_authz.outbound import Outbound
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import OtlpSink as OtlpSettings
from ext_authz.settings.settings import Rotation
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.otlp_receiver import COLLECTORS_WORDS, OtlpReceiver, Post, Says
from tests.unit.audit.chains import event, whole_lines

SOON = 30.0
CANARY = "canary-5b1e"
Log = list[MutableMapping[str, Any]]
Run = Callable[..., AbstractAsyncContextManager[OtlpSink]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def chain(file: Path) -> Iterator[ChainFile]:
    chain = ChainFile(quiet(file), None, Clock())
    yield chain
    chain.close()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
async def out() -> AsyncIterator[Outbound]:
    async with Outbound(seconds=2, context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as out:
        yield out


@pytest.fixture
def run(file: Path, receiver: OtlpReceiver, out: Outbound) -> Run:
    @asynccontextmanager
    async def run(
        headers: dict[str, SecretSource] | None = None, soon: float = 0.02
    ) -> AsyncIterator[OtlpSink]:
        otlp = OtlpSettings(endpoint=receiver.url, headers=headers or {})
        sink = OtlpSink(quiet(file), otlp, out, Clock(), soon_seconds=soon, later_seconds=0.05)
        try:
            yield sink
        finally:
            await sink.close()

    return run


def write(chain: ChainFile, number: int = 1) -> None:
    for _ in range(number):
        chain.write([event("x")])


def numbers(receiver: OtlpReceiver) -> list[int]:
    """As received, the repetitions included."""
    return [unlink(line.encode()).sequence for line in receiver.lines]


def bytes_beside(key: Path) -> bytes:
    """Those of the log and of its position."""
    log, position = (path for path in sorted(key.parent.iterdir()) if path != key)
    return log.read_bytes() + position.read_bytes()


def first_time(receiver: OtlpReceiver) -> list[int]:
    """As received, without the repetitions."""
    return list(dict.fromkeys(numbers(receiver)))


def a_folder_at(file: Path) -> None:
    """It can be opened, and not read."""
    file.mkdir()


def remove_folder(file: Path) -> None:
    file.rmdir()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - it looks at another thread
            await asyncio.sleep(0.01)


def names(log: Log) -> list[object]:
    return [entry["event"] for entry in log]


async def test_every_record_arrives_in_order(
    chain: ChainFile, file: Path, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    write(chain, 5)
    async with run():
        await until(lambda: len(receiver.lines) == 6)
        write(chain, 2000)
        await until(lambda: len(receiver.lines) == 2006)

    assert [line.encode() for line in receiver.lines] == whole_lines(file)
    assert names(log) == []


async def test_the_request_is_otlps(chain: ChainFile, receiver: OtlpReceiver, run: Run) -> None:
    write(chain)
    async with run():
        await until(lambda: bool(receiver.posts))
    post = receiver.posts[0]

    assert post.path == "/v1/logs"
    assert post.headers["content-type"] == "application/x-protobuf"
    assert post.headers["accept"] == "application/x-protobuf"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_a_collector_in_trouble_refused_comes_again(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log, status: int
) -> None:
    receiver.next.extend([Says(status=status)] * 3)
    write(chain, 2)
    async with run():
        await until(lambda: "audit_otlp_recovered" in names(log))

    assert numbers(receiver) == [0, 1, 2]
    assert names(log) == ["audit_otlp_unavailable", "audit_otlp_recovered"]
    assert COLLECTORS_WORDS not in repr(log)


@pytest.mark.parametrize("status", [429, 503])
async def test_it_waits_as_long_as_it_is_asked_to(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, status: int
) -> None:
    receiver.next.append(Says(status=status, headers={"retry-after": "1"}))
    write(chain)
    async with run():
        await until(lambda: len(receiver.lines) == 2)
    first, second = receiver.posts

    assert second.at - first.at >= 1.0


async def test_it_tries_less_and_less_often(
    chain: ChainFile, receiver: OtlpReceiver, run: Run
) -> None:
    receiver.next.extend([Says(status=503)] * 5)
    write(chain)
    async with run(soon=0.02):
        await until(lambda: len(receiver.lines) == 2)
    pauses = [after.at - before.at for before, after in pairwise(receiver.posts)]

    assert len(pauses) == 5
    assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))


async def test_nothing_is_missing_after_an_outage(
    chain: ChainFile, file: Path, out: Outbound, log: Log
) -> None:
    with OtlpReceiver() as before:
        otlp = OtlpSettings(endpoint=before.url, headers={})
        sink = OtlpSink(quiet(file), otlp, out, Clock(), soon_seconds=0.02)
        write(chain, 3)
        await until(lambda: len(before.lines) == 4)
    write(chain, 700)
    await until(lambda: "audit_otlp_unavailable" in names(log))
    with OtlpReceiver(before.port) as after:
        await until(lambda: 703 in numbers(after))
        await sink.close()

    assert list(dict.fromkeys(numbers(before) + numbers(after))) == list(range(704))
    assert "audit_otlp_recovered" in names(log)


async def test_a_receiver_that_dies_before_it_answers_gets_the_records_again(
    chain: ChainFile, receiver: OtlpReceiver, run: Run
) -> None:
    """It has them twice then, and knows it by `log.record.uid`."""
    receiver.next.append(Says(headers={"content-length": "999"}))  # more than ever comes
    write(chain, 2)
    async with run():
        await until(lambda: len(receiver.lines) >= 6)
    uids = [
        next(pair.value.string_value for pair in log.attributes if pair.key == "log.record.uid")
        for log in receiver.logs
    ]

    assert numbers(receiver) == [0, 1, 2, 0, 1, 2]
    assert uids[:3] == uids[3:]
    assert len(set(uids)) == 3


async def test_a_restart_in_an_outage_with_rotation_loses_nothing(
    file: Path, receiver: OtlpReceiver, run: Run
) -> None:
    settings = quiet(file, rotation=Rotation(megabytes=0.002, seconds=NEVER))
    chain = ChainFile(settings, None, Clock())
    write(chain, 5)
    async with run():
        await until(lambda: len(receiver.lines) >= 6)
    receiver.judge = lambda _post: Says(status=503)
    async with run():
        write(chain, 20)
        asked = len(receiver.posts)
        await until(lambda: len(receiver.posts) > asked + 1)
    write(chain, 20)
    chain.close()
    chain = ChainFile(settings, None, Clock())
    receiver.judge = lambda _post: Says()
    async with run():
        write(chain, 20)
        total = sum(len(whole_lines(path)) for path in file.parent.glob("audit*.jsonl"))
        await until(lambda: len(first_time(receiver)) >= total)
    chain.close()

    assert len(list(file.parent.glob("audit-*.jsonl"))) > 5
    assert first_time(receiver) == list(range(total))


@pytest.mark.parametrize("status", [400, 413])
async def test_a_record_that_the_collector_will_never_have_holds_no_other_up(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log, status: int
) -> None:
    def judge(post: Post) -> Says:
        is_bad = any('"sequence":7}' in log.body.string_value for log in post.logs)
        return Says(status=status if is_bad else 200)

    receiver.judge = judge
    write(chain, 20)
    async with run():
        await until(lambda: 20 in numbers(receiver) and bool(log))

    assert first_time(receiver) == [number for number in range(21) if number != 7]
    refused = [entry for entry in log if entry["event"] == "audit_otlp_refused"]
    assert [(entry["first"], entry["last"], entry["fault"]) for entry in refused] == [
        (7, 7, f"HTTP {status}")
    ]


async def test_refused_records_are_one_alarm_for_each_run_of_them(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    bad = tuple(f'"sequence":{number}}}' for number in (3, 4, 5, 9))

    def judge(post: Post) -> Says:
        is_bad = any(mark in log.body.string_value for log in post.logs for mark in bad)
        return Says(status=400 if is_bad else 200)

    receiver.judge = judge
    write(chain, 12)
    async with run():
        await until(lambda: 12 in numbers(receiver))
        await until(lambda: len(log) == 2)

    assert first_time(receiver) == [0, 1, 2, 6, 7, 8, 10, 11, 12]
    assert names(log) == ["audit_otlp_refused"] * 2
    assert [(entry["first"], entry["last"]) for entry in log] == [(3, 5), (9, 9)]


async def test_who_refuses_a_request_without_records_as_well_is_waited_for(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    """A wrong path, or a setting: nothing is given up for it."""
    receiver.judge = lambda _post: Says(status=400)
    write(chain, 3)
    async with run():
        await until(lambda: len(receiver.posts) > 8)
        receiver.judge = lambda _post: Says()
        await until(lambda: len(receiver.lines) == 4)

    assert numbers(receiver) == [0, 1, 2, 3]
    assert names(log)[0] == "audit_otlp_unavailable"
    assert set(names(log)[1:]) <= {"audit_otlp_recovered"}
    assert log[0]["fault"] == "HTTP 400"


async def test_each_kind_of_fault_in_an_outage_is_told_of_once(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    receiver.next.extend([Says(status=503), Says(status=502)] * 3)
    write(chain)
    async with run(soon=0.002):
        await until(lambda: "audit_otlp_recovered" in names(log))
        receiver.next.append(Says(status=503))
        write(chain)
        await until(lambda: names(log).count("audit_otlp_recovered") == 2)

    told = [(entry["event"], entry.get("fault")) for entry in log]
    assert told == [
        ("audit_otlp_unavailable", "HTTP 503"),
        ("audit_otlp_unavailable", "HTTP 502"),
        ("audit_otlp_recovered", None),
        ("audit_otlp_unavailable", "HTTP 503"),
        ("audit_otlp_recovered", None),
    ]


async def test_what_nobody_can_read_after_200_was_taken(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    receiver.judge = lambda _post: Says(body=b"\xff<html>")
    write(chain, 2)
    async with run():
        await until(lambda: len(receiver.lines) == 3)
        write(chain)
        await until(lambda: len(receiver.lines) == 4)

    assert numbers(receiver) == [0, 1, 2, 3]
    assert names(log) == []


async def test_a_collector_that_hangs_holds_no_record_up(
    file: Path, receiver: OtlpReceiver, run: Run
) -> None:
    answer = threading.Event()
    receiver.judge = lambda _post: Says(status=200 if answer.wait(SOON) else 500)
    audit = AuditLog(quiet(file), Clock())
    event = {"name": "x", "unmapped": {"event": "decision"}}
    await audit.append(event, seconds=SOON)
    async with run():
        for _ in range(50):
            await audit.append(event, seconds=SOON)
        assert receiver.lines == []
        answer.set()
        await until(lambda: 51 in numbers(receiver))
    await audit.close()

    assert first_time(receiver)[:52] == list(range(52))


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_what_somebody_has_to_mend_is_waited_for(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log, status: int
) -> None:
    receiver.judge = lambda _post: Says(status=status)
    write(chain, 3)
    async with run():
        await until(lambda: len(receiver.posts) > 2)
        receiver.judge = lambda _post: Says()
        await until(lambda: len(receiver.lines) == 4)

    assert numbers(receiver) == [0, 1, 2, 3]
    assert (log[0]["event"], log[0]["fault"]) == ("audit_otlp_unavailable", f"HTTP {status}")


async def test_records_that_the_collector_threw_away_are_an_alarm(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    receiver.next.append(Says(rejected=2))
    write(chain, 4)
    async with run():
        await until(lambda: bool(log))

    (entry,) = log
    assert (entry["event"], entry["records"], entry["of"]) == ("audit_otlp_rejected", 2, 5)
    assert COLLECTORS_WORDS not in repr(log)


async def test_a_header_is_read_anew_and_stands_nowhere_else(
    chain: ChainFile, tmp_path: Path, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(f"Bearer {CANARY}-old\n")
    receiver.judge = lambda post: Says(
        status=200 if post.headers["authorization"] == f"Bearer {CANARY}-new" else 401
    )
    write(chain, 2)
    async with run(headers={"Authorization": SecretSource(file=str(key))}):
        await until(lambda: len(receiver.posts) > 1)
        key.write_text(f"Bearer {CANARY}-new\n")
        await until(position_file(tmp_path / "audit.jsonl").exists)

    assert numbers(receiver) == [0, 1, 2]
    assert CANARY not in repr(log)
    assert not any(CANARY.encode() in post.body for post in receiver.posts)
    assert CANARY.encode() not in bytes_beside(key)


@pytest.mark.parametrize("name", ["two words", "Größe", "", "Content-Length", "host"])
async def test_a_header_that_http_cannot_have_is_told_of_and_waited_for(
    chain: ChainFile, tmp_path: Path, receiver: OtlpReceiver, run: Run, log: Log, name: str
) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(CANARY)
    write(chain)
    async with run(headers={name: SecretSource(file=str(key))}):
        await until(lambda: bool(log))

    assert log[0]["fault"] == f"the header {name} is none that can be set"
    assert receiver.posts == []
    assert CANARY not in repr(log)


@pytest.mark.parametrize("value", ["two\nlines", "Größe", ""])
async def test_a_header_that_cannot_be_sent_is_told_of_and_waited_for(
    chain: ChainFile, tmp_path: Path, receiver: OtlpReceiver, run: Run, log: Log, value: str
) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(value)
    write(chain)
    async with run(headers={"x-key": SecretSource(file=str(key))}):
        await until(lambda: bool(log))
        assert receiver.posts == []
        key.write_text("good")
        await until(lambda: len(receiver.lines) == 2)

    assert "the header x-key" in str(log[0]["fault"])
    assert not value or value not in repr(log)


async def test_finishing_sends_what_is_left(
    chain: ChainFile, receiver: OtlpReceiver, run: Run
) -> None:
    write(chain, 2)
    async with run() as sink:
        await until(lambda: len(receiver.lines) == 3)
        write(chain, 600)
        await sink.finish(seconds=SOON)

    assert numbers(receiver) == list(range(603))


async def test_finishing_waits_for_the_answer_that_is_on_its_way(
    chain: ChainFile, receiver: OtlpReceiver, run: Run
) -> None:
    """Broken off, these records would come twice."""
    answer = threading.Event()
    receiver.judge = lambda _post: Says(status=200 if answer.wait(SOON) else 500)
    write(chain, 2)
    async with run() as sink:
        await asyncio.sleep(0.2)
        asyncio.get_running_loop().call_later(0.2, answer.set)
        await sink.finish(seconds=SOON)

    assert numbers(receiver) == [0, 1, 2]


async def test_finishing_ends_in_time_whatever_the_collector_does(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    receiver.judge = lambda _post: Says(status=503)
    async with run() as sink, asyncio.timeout(SOON):
        write(chain, 2)
        await sink.finish(seconds=0.2)

    assert names(log)[-1] == "audit_otlp_unfinished"


async def test_being_cancelled_at_any_moment_loses_nothing(
    chain: ChainFile, receiver: OtlpReceiver, run: Run
) -> None:
    for milliseconds in range(0, 40, 2):
        write(chain, 3)
        async with run():
            await asyncio.sleep(milliseconds / 1000)
    async with run() as sink:
        await sink.finish(seconds=SOON)

    assert first_time(receiver) == list(range(61))


async def test_a_wait_that_was_asked_for_is_kept_when_finishing_too(
    chain: ChainFile, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    receiver.judge = lambda _post: Says(status=503, headers={"retry-after": "600"})
    write(chain)
    async with run() as sink:
        await until(lambda: bool(log))
        await sink.finish(seconds=0.3)

    assert len(receiver.posts) == 1
    assert names(log) == ["audit_otlp_unavailable", "audit_otlp_unfinished"]


async def test_a_file_that_cannot_be_read_is_told_of_once_and_found_again(
    file: Path, receiver: OtlpReceiver, run: Run, log: Log
) -> None:
    a_folder_at(file)
    async with run():
        await until(lambda: bool(log))
        await asyncio.sleep(0.2)
        remove_folder(file)
        chain = ChainFile(quiet(file), None, Clock())
        write(chain, 2)
        await until(lambda: len(receiver.lines) == 3 and len(log) == 2)
        chain.close()

    assert numbers(receiver) == [0, 1, 2]
    assert names(log) == ["audit_otlp_failed", "audit_otlp_resumed"]
    assert log[0]["fault"] == "IsADirectoryError"


async def test_a_disk_that_hangs_keeps_nobody_from_ending(file: Path, run: Run, log: Log) -> None:
    os.mkfifo(file)  # opening it waits for a writer, who never comes
    async with asyncio.timeout(SOON):
        async with run() as sink:
            await sink.finish(seconds=0.1)
    os.close(os.open(file, os.O_RDWR))  # the thread goes on, and ends

    assert names(log) == ["audit_otlp_unfinished"]
