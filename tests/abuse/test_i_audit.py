"""I. Audit: every Check leaves its one record, and an allow leaves after it.

I3 and I7 are about chained and keyed records, which are not built: see the table.
"""

import asyncio
import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from tests.abuse.program import behind, program
from tests.abuse.verdicts import Seen, assert_no_allow
from tests.doubles.loopback import Dial
from tests.pipeline.gateway import Answer, Gateway
from tests.pipeline.gateway import gateway as not_yet_serving
from tests.pipeline.test_life import Raw, method
from tests.pipeline.test_life import records as so_many_records

BURST = 300


def ids_in(file: Path) -> list[str]:
    """The decisions in the file, in its order; every line is whole."""
    lines = file.read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line)["decision_id"] for line in lines]


# ---- I1: a sink that fails


@contextlib.contextmanager
def writing(write: Callable[[int, memoryview], int]) -> Iterator[None]:
    """The audit's own writes go through `write`; nobody else's do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ext_authz.audit.log.os", SimpleNamespace(write=write, close=os.close))
        yield


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "EACCES", "EROFS", "EBADF", "EDQUOT", "EPIPE"])
async def test_i1_what_cannot_be_written_down_is_not_allowed(
    gateway: Gateway, seen: Seen, fault: str
) -> None:
    number = getattr(errno, fault)

    def fails(_descriptor: int, _line: memoryview) -> int:
        raise OSError(number, os.strerror(number))

    with writing(fails):
        answer = await gateway.call()
    healed = await gateway.call()

    assert_no_allow(gateway, answer)
    assert answer.reason == "audit_unavailable"
    assert healed.is_allow
    assert ids_in(gateway.audit_file) == [healed.decision_id]
    seen("deny audit_unavailable")


async def test_i1_a_disk_that_is_full_for_real_allows_nothing(
    prepared: Gateway, seen: Seen
) -> None:
    prepared.change(audit_file="/dev/full")
    async with prepared.serving():
        answers = [await prepared.call(), await prepared.call(token=None)]

    assert {answer.reason for answer in answers} == {"audit_unavailable"}
    assert not any(answer.is_allow for answer in answers)
    seen("deny audit_unavailable")


async def test_i1_a_disk_that_stalls_lets_nobody_pass_before_the_deadline_of_envoy(
    gateway: Gateway, seen: Seen
) -> None:
    """Decided: the write is not given up. Envoy's own deadline is the bound, and its answer a 503."""

    def stalls(descriptor: int, line: memoryview) -> int:
        time.sleep(0.5)
        return os.write(descriptor, line)

    with writing(stalls), pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway._stub.Check(gateway.request(), timeout=0.3)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
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
        lines = gateway.audit_file.read_bytes().split(b"\n")

    recorded = [json.loads(line)["decision_id"] for line in lines[:-1]]
    assert len(allowed) > len(callers)
    assert set(allowed) <= set(recorded)
    assert len(recorded) == len(set(recorded))
    seen("no allow without its record")


async def test_i2_started_again_it_closes_the_torn_line_and_loses_nothing(
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

    assert audit.startswith(torn + b"\n")
    whole = [json.loads(line) for line in audit.splitlines() if line.endswith(b"}")]
    assert [record["decision_id"] for record in whole] == [*before[:2], *after]
    assert before[2].encode() in torn
    seen("torn line closed, none lost")


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
    """There is no queue that could be full: a Check writes its own record, and waits for that."""
    token = gateway.sign_in()

    async def is_recorded() -> bool:
        answer = await gateway.call(token=token)
        return answer.is_allow and answer.decision_id in gateway.audit_file.read_text()

    assert all(await asyncio.gather(*(is_recorded() for _ in range(BURST))))
    assert len(ids_in(gateway.audit_file)) == BURST
    seen("no queue; allow after its record")


# ---- I6: rotation and company


async def _calls(gateway: Gateway, number: int) -> list[str]:
    token = gateway.sign_in()
    answers: list[Answer] = await asyncio.gather(
        *(gateway.call(token=token) for _ in range(number))
    )
    return [answer.decision_id for answer in answers]


async def test_i6_renamed_by_logrotate_the_file_keeps_every_record(
    gateway: Gateway, seen: Seen
) -> None:
    """Decided: the name is not opened anew. Rotate with `copytruncate`, or restart after a rename."""
    before = await _calls(gateway, 20)
    rotated = gateway.audit_file.rename(gateway.audit_file.with_suffix(".1"))
    after = await _calls(gateway, 20)

    assert sorted(ids_in(rotated)) == sorted(before + after)
    assert not gateway.audit_file.exists()
    seen("all in the renamed file")


async def test_i6_cut_by_copytruncate_it_goes_on_from_the_beginning(
    gateway: Gateway, seen: Seen
) -> None:
    await _calls(gateway, 20)
    os.truncate(gateway.audit_file, 0)
    after = await _calls(gateway, 20)

    assert sorted(ids_in(gateway.audit_file)) == sorted(after)
    seen("none lost after the cut")


async def test_i6_two_services_on_one_file_tear_no_line(gateway: Gateway, seen: Seen) -> None:
    async with not_yet_serving(gateway.time) as other:
        other.change(audit_file=str(gateway.audit_file))
        async with other.serving():
            ours, theirs = await asyncio.gather(_calls(gateway, 100), _calls(other, 100))

    assert sorted(ids_in(gateway.audit_file)) == sorted(ours + theirs)
    seen("no torn line")


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

    times = [record["time"] for record in gateway.records()]
    assert ids_in(gateway.audit_file) == decisions
    assert times != sorted(times)
    seen("file order kept")
