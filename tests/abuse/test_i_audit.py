"""I. Audit: every Check leaves its one record, and an allow leaves after it.

I3 and I7 have modules of their own.
"""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import orjson
import pytest

from ext_authz.cannot_serve import CannotServe
from ext_authz.settings.settings import Durability
from tests.abuse.auditing import verified
from tests.abuse.program import behind, program
from tests.abuse.verdicts import Seen, assert_no_allow
from tests.doubles.audit_records import records_in
from tests.doubles.audit_settings import audit_settings
from tests.doubles.loopback import Dial
from tests.pipeline.gateway import Answer, Gateway
from tests.pipeline.gateway import gateway as not_yet_serving
from tests.pipeline.test_life import Raw, method
from tests.pipeline.test_life import records as so_many_records

BURST = 300


def ids_in(file: Path) -> list[str]:
    """The decisions in the file, in its order; every line is whole."""
    assert file.read_bytes().endswith(b"\n")
    return [record["decision_id"] for record in records_in(file)]


def told(kind: str, *files: Path) -> list[Any]:
    """What the log itself says in its events of that kind."""
    events = [orjson.loads(line) for file in files for line in whole_lines(file)]
    found = [event["unmapped"] for event in events]
    return [unmapped["log"][kind] for unmapped in found if unmapped["event"] == kind]


def whole_lines(file: Path) -> list[bytes]:
    """Those that are records; what a crash tore is left out."""
    return [line for line in file.read_bytes().split(b"\n") if line.endswith(b"}}}")]


# ---- I1: a sink that fails


@contextlib.contextmanager
def disk(**calls: Callable[..., Any]) -> Iterator[None]:
    """The audit's own calls to the kernel go to `calls`; nobody else's do."""
    with pytest.MonkeyPatch.context() as patch:
        system = SimpleNamespace(**{**vars(os), **calls})
        patch.setattr("ext_authz.audit.append_file.os", system)
        yield


def failing(fault: str) -> Callable[..., Any]:
    number = getattr(errno, fault)

    def fails(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "EACCES", "EROFS", "EBADF", "EDQUOT", "EPIPE"])
async def test_i1_what_cannot_be_written_down_is_not_allowed(
    gateway: Gateway, seen: Seen, fault: str
) -> None:
    with disk(write=failing(fault)):
        answer = await gateway.call()
    healed = await gateway.call()

    assert_no_allow(gateway, answer)
    assert answer.reason == "audit_unavailable"
    assert healed.is_allow
    assert ids_in(gateway.audit_file) == [healed.decision_id]
    assert [lost["records"] for lost in told("lost", gateway.audit_file)] == [1]
    seen("deny audit_unavailable")


async def test_i1_what_cannot_be_synced_is_not_allowed(prepared: Gateway, seen: Seen) -> None:
    """Whether it is on the disk after all, nobody can tell: its record is followed by a word on that."""
    prepared.change(audit=audit_settings(prepared.audit_file, durability=Durability.SYNCED))
    async with prepared.serving():
        before = await prepared.call()
        with disk(fdatasync=failing("EIO")):
            answer = await prepared.call()
        healed = await prepared.call()

    assert answer.reason == "audit_unavailable"
    assert (before.is_allow, answer.is_allow, healed.is_allow) == (True, False, True)
    (unsynced,) = told("unsynced", prepared.audit_file)
    unsure = whole_lines(prepared.audit_file)[unsynced["first"] : unsynced["last"] + 1]
    assert any(answer.decision_id.encode() in line for line in unsure)
    assert verified(prepared.audit_file).is_intact
    seen("deny audit_unavailable")


async def test_i1_a_disk_that_is_full_for_real_allows_nothing(
    prepared: Gateway, seen: Seen
) -> None:
    prepared.change(audit=audit_settings("/dev/full"))
    async with prepared.serving():
        answers = [await prepared.call(), await prepared.call(token=None)]

    assert {answer.reason for answer in answers} == {"audit_unavailable"}
    assert not any(answer.is_allow for answer in answers)
    seen("deny audit_unavailable")


@contextlib.contextmanager
def stalled() -> Iterator[None]:
    """Writes hang until the block ends."""
    go_on = threading.Event()

    def stalls(descriptor: int, data: memoryview) -> int:
        go_on.wait()
        return os.write(descriptor, data)

    with disk(write=stalls):
        try:
            yield
        finally:
            go_on.set()


async def test_i1_a_disk_that_stalls_lets_nobody_pass_and_the_record_says_so_later(
    gateway: Gateway, seen: Seen
) -> None:
    with stalled():
        answer = await gateway.call()
    healed = await gateway.call()

    assert answer.reason == "audit_slow"
    assert_no_allow(gateway, answer)
    assert healed.is_allow
    records = {record["decision_id"]: record for record in gateway.records()}
    assert records[answer.decision_id]["verdict"] == "deny"
    assert records[answer.decision_id]["reason"] == "audit_slow"
    assert records[answer.decision_id]["is_correction"]
    seen("deny audit_slow, corrected on record")


async def test_i1_a_disk_that_stalls_lets_nobody_pass_before_the_deadline_of_envoy(
    gateway: Gateway, seen: Seen
) -> None:
    with stalled(), pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway._stub.Check(gateway.request(), timeout=0.3)
    healed = await gateway.call()
    abandoned, after = await so_many_records(gateway, 2)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert abandoned["verdict"] == "abandoned"
    assert after["decision_id"] == healed.decision_id
    seen("no answer in Envoy's time")


# ---- I2: kill -9


async def test_i2_killed_under_load_it_has_the_record_of_every_allow_that_it_gave(
    credentials: None, seen: Seen
) -> None:
    async with behind() as gateway:
        allowed: list[str] = []

        async def calls_on() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                while True:
                    answer = await gateway.call(token=token)
                    allowed.append(answer.decision_id)

        async with program(gateway) as process:
            token = gateway.sign_in()
            await gateway.call(token=token)
            callers = [asyncio.create_task(calls_on()) for _ in range(20)]
            await asyncio.sleep(0.5)
            process.kill()
            await asyncio.gather(*callers)
        recorded = [record["decision_id"] for record in records_in(gateway.audit_file)]

    assert len(allowed) > len(callers)
    assert set(allowed) <= set(recorded)
    assert len(recorded) == len(set(recorded))
    seen("no allow without its record")


async def test_i2_started_again_it_closes_the_torn_line_names_it_and_loses_nothing(
    credentials: None, seen: Seen
) -> None:
    async with behind() as gateway:
        async with program(gateway) as process:
            before = [(await gateway.call()).decision_id for _ in range(3)]
            process.kill()
        torn = gateway.audit_file.read_bytes()[:-40]  # as a kill in mid-append would leave it
        gateway.audit_file.write_bytes(torn)
        async with program(gateway):
            after = [(await gateway.call()).decision_id for _ in range(2)]
        audit = gateway.audit_file.read_bytes()
        report = verified(gateway.audit_file)
        (named,) = told("torn", gateway.audit_file)

    whole = b"".join(line + b"\n" for line in audit.split(b"\n") if line.endswith(b"}}}"))
    assert audit.startswith(torn + b"\n")
    assert named["bytes"] == len(torn) - torn.rindex(b"\n") - 1
    assert [record["decision_id"] for record in records_in(whole)] == [*before[:2], *after]
    assert before[2].encode() in torn
    assert report.is_intact
    seen("torn line closed and named, none lost")


# ---- I4: one record for each Check


async def test_i4_each_check_has_exactly_one_record_whatever_becomes_of_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    requests: list[dict[str, Any]] = [
        {},
        {"token": None},
        {"message": "no JSON"},
        {"path": "no path"},
        {"method": "GET", "message": None},
        {"method": "GET", "message": None, "path": "/.well-known/oauth-protected-resource/crm"},
        {"token": gateway.sign_in(sub="")},
    ]
    answers = [await gateway.call(**request) for request in requests]
    raw: Raw = method(gateway.channel, "Check")
    await raw(b"")
    gateway.idp.token.dial = Dial(gate=asyncio.Event())
    left = asyncio.create_task(gateway.call(token=gateway.sign_in(sub="bob", sid="bob")))
    gateway.idp.token.called.clear()
    await gateway.idp.token.called.wait()
    left.cancel()
    await so_many_records(gateway, len(requests) + 2)
    with monkeypatch.context() as patch:
        patch.setattr("ext_authz.check.read_message", None)
        answers.append(await gateway.call())

    records = gateway.records()
    verdicts = [record["verdict"] for record in records]
    assert len({record["decision_id"] for record in records}) == len(records)
    assert len(records) == len(requests) + 3
    assert {answer.decision_id for answer in answers} < {r["decision_id"] for r in records}
    assert verdicts.count("abandoned") == 1
    assert records[-1]["reason"] == "internal"
    seen("one record each")


# ---- I5: more than can be written


async def test_i5_in_a_burst_no_allow_arrives_before_its_record(
    gateway: Gateway, seen: Seen
) -> None:
    token = gateway.sign_in()

    async def is_recorded() -> bool:
        answer = await gateway.call(token=token)
        return answer.is_allow and answer.decision_id in gateway.audit_file.read_text()

    assert all(await asyncio.gather(*(is_recorded() for _ in range(BURST))))
    assert len(ids_in(gateway.audit_file)) == BURST
    seen("allow after its record")


async def test_i5_a_burst_on_a_stalled_disk_is_denied_and_each_is_on_record_as_denied(
    gateway: Gateway, seen: Seen
) -> None:
    token = gateway.sign_in()
    with stalled():
        answers = await asyncio.gather(*(gateway.call(token=token) for _ in range(BURST)))
    healed = await gateway.call(token=token)

    denied = {answer.decision_id for answer in answers}
    records = {record["decision_id"]: record for record in gateway.records()}
    assert {answer.reason for answer in answers} == {"audit_slow"}
    assert healed.is_allow
    assert records.keys() == {*denied, healed.decision_id}
    assert {records[decision]["verdict"] for decision in denied} == {"deny"}
    seen("deny audit_slow")


# ---- I6: rotation and company


async def _calls(gateway: Gateway, number: int) -> list[str]:
    token = gateway.sign_in()
    answers: list[Answer] = await asyncio.gather(
        *(gateway.call(token=token) for _ in range(number))
    )
    return [answer.decision_id for answer in answers]


async def test_i6_renamed_by_logrotate_no_record_is_lost(gateway: Gateway, seen: Seen) -> None:
    before = await _calls(gateway, 20)
    rotated = gateway.audit_file.rename(gateway.audit_file.with_suffix(".jsonl.1"))
    after = await _calls(gateway, 20)

    assert sorted(ids_in(rotated)) == sorted(before)
    assert sorted(ids_in(gateway.audit_file)) == sorted(after)
    assert verified(rotated, gateway.audit_file).is_intact
    seen("a new file, the same chain")


async def test_i6_cut_by_copytruncate_it_goes_on_and_says_so(gateway: Gateway, seen: Seen) -> None:
    await _calls(gateway, 20)
    size = gateway.audit_file.stat().st_size
    os.truncate(gateway.audit_file, 0)
    after = await _calls(gateway, 20)

    assert sorted(ids_in(gateway.audit_file)) == sorted(after)
    assert told("truncated", gateway.audit_file) == [{"bytes": size}]
    seen("none lost after the cut, which is on record")


async def test_i6_a_second_service_is_kept_off_the_file(gateway: Gateway, seen: Seen) -> None:
    async with not_yet_serving(gateway.time) as other:
        other.change(audit=replace(other.settings.audit, file=str(gateway.audit_file)))
        with pytest.raises(CannotServe, match="another process writes to it"):
            await other.serving().__aenter__()
    ours = await _calls(gateway, 20)

    assert sorted(ids_in(gateway.audit_file)) == sorted(ours)
    seen("does not start")


def test_i6_a_child_process_does_not_get_the_file(gateway: Gateway, seen: Seen) -> None:
    held = {
        int(link.name): str(link.readlink())
        for link in Path("/proc/self/fd").iterdir()
        if link.is_file()
    }
    (descriptor,) = (n for n, file in held.items() if file == str(gateway.audit_file))

    assert not os.get_inheritable(descriptor)
    seen("not inherited")


# ---- I8: the clock


async def test_i8_when_the_clock_goes_backwards_the_order_of_the_file_holds(
    gateway: Gateway, seen: Seen
) -> None:
    """Decided: `time` is what the clock said. What came after what is the order of the lines."""
    decisions = []
    for jump in (0, -3600, 7200, -86400):
        gateway.time.jumps(jump)
        decisions.append((await gateway.call(token=gateway.sign_in())).decision_id)

    times = [record["time_ms"] for record in gateway.records()]
    assert ids_in(gateway.audit_file) == decisions
    assert times != sorted(times)
    assert verified(gateway.audit_file).is_intact
    seen("file order kept")
