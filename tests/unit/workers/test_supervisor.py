"""A parent and its workers, all of them real processes, from the first start to the last stop."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio

from ext_authz.workers.back_off import FIRST_SECONDS
from ext_authz.workers.supervisor import SETTLE_SECONDS
from tests.unit.workers.parent import Parent, until_gone

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parent]:
    """Two workers that serve, for the tests that leave two that serve."""
    parent = Parent(tmp_path_factory.mktemp("workers"))
    parent.write()
    async with parent.running():
        await parent.says("workers_serving")
        yield parent


@pytest.fixture
def parent(shared: Parent) -> Parent:
    shared.write()
    return shared


async def test_each_worker_has_an_address_and_an_audit_file(parent: Parent) -> None:
    files = {file.name for file in parent.folder.glob("*.jsonl")}

    assert set(parent.pids()) == {1, 2}
    assert await parent.serves(1)
    assert await parent.serves(2)
    assert files == {"audit-1.jsonl", "audit-2.jsonl"}
    assert {event["worker"] for event in parent.events("serving")} == {1, 2}


async def test_a_worker_that_dies_is_started_again_on_the_settings_that_it_had(
    parent: Parent,
) -> None:
    parent.file.write_text("spoiled: by now\n")
    before, line = parent.pids(), parent.lines()
    os.kill(before[2], signal.SIGKILL)
    died = await parent.says("worker_died", after=line)
    back = await parent.says("worker_serving", after=line)
    after = parent.pids()

    assert (died["worker"], died["pid"], died["status"]) == (2, before[2], -signal.SIGKILL)
    assert seconds_between(died, back) >= FIRST_SECONDS
    assert after[1] == before[1]
    assert after[2] == back["pid"] != before[2]
    assert await parent.serves(2)


async def test_a_file_with_a_fault_is_refused_and_nothing_changes(parent: Parent) -> None:
    before, line = parent.pids(), parent.lines()
    parent.write(listen="0.0.0.0:9191")
    parent.signal(signal.SIGHUP)
    refused = await parent.says("reload_refused", after=line)

    assert refused["level"] == "error"
    assert [fault.split(": ")[1] for fault in refused["faults"]] == ["listen"]
    assert parent.pids() == before
    assert parent.events("worker_stopped", after=line) == []


async def test_all_workers_are_replaced_one_at_a_time_and_new_ones_come_first(
    parent: Parent,
) -> None:
    before, line = parent.pids(), parent.lines()
    parent.write(workers=3)
    parent.signal(signal.SIGHUP)
    await parent.says("reloaded", after=line)
    stopped = parent.events("worker_stopped", after=line)
    serving = parent.events("worker_serving", after=line)

    assert [(event["worker"], event["status"]) for event in stopped] == [(1, 0), (2, 0)]
    assert [event["worker"] for event in serving] == [3, 1, 2]
    assert seconds_between(serving[0], stopped[0]) >= SETTLE_SECONDS
    assert seconds_between(serving[1], stopped[1]) >= SETTLE_SECONDS
    assert {*parent.pids().values()} & {*before.values()} == set()
    assert parent.events("worker_died", after=line) == []


async def test_workers_go_with_their_number(parent: Parent) -> None:
    line = parent.lines()
    parent.signal(signal.SIGHUP)
    await parent.says("reloaded", after=line)
    gone = [e for e in parent.events("worker_stopped", after=line) if e["worker"] == 3]

    assert set(parent.pids()) == {1, 2}
    assert [event["status"] for event in gone] == [0]
    assert not await parent.serves(3)


async def test_settings_that_no_worker_can_run_on_are_given_up_again(parent: Parent) -> None:
    before, line = parent.pids(), parent.lines()
    parent.write(audit={"file": f"{parent.folder}/nowhere/audit-{{worker}}.jsonl"})
    parent.signal(signal.SIGHUP)
    stopped = await parent.says("reload_stopped", after=line)
    back = await parent.says("worker_serving", after=line)

    assert stopped["why"] == "Worker 1 ended before it served, with exit status 1."
    assert parent.pids() == {1: back["pid"], 2: before[2]}
    assert await parent.serves(1)
    assert await parent.serves(2)


async def test_a_worker_itself_is_not_moved_by_a_hangup(parent: Parent) -> None:
    before, line = parent.pids(), parent.lines()
    os.kill(before[1], signal.SIGHUP)
    await parent.says("hangup_ignored", after=line)

    assert parent.pids() == before
    assert await parent.serves(1)


async def test_a_stop_in_the_midst_of_the_start_leaves_nobody(tmp_path: Path) -> None:
    parent = Parent(tmp_path)
    parent.write()
    async with parent.running():
        await parent.says("serving")
        workers = parent.pids().values()
        parent.signal(signal.SIGINT)
        status = await parent.ended()
        await until_gone(*workers)

    assert status == 0
    assert parent.events("said") == []


async def test_when_the_parent_is_lost_its_workers_end_in_order(tmp_path: Path) -> None:
    parent = Parent(tmp_path)
    parent.write()
    async with parent.running():
        await parent.says("workers_serving")
        workers = parent.pids().values()
        parent.signal(signal.SIGKILL)
        await until_gone(*workers)

    assert {event["worker"] for event in parent.events("parent_lost")} == {1, 2}
    assert {event["worker"] for event in parent.events("stopped")} == {1, 2}


async def test_where_one_cannot_serve_none_does(tmp_path: Path) -> None:
    (tmp_path / "check-2.sock").write_text("no socket")
    parent = Parent(tmp_path)
    parent.write()
    async with parent.running():
        status = await parent.ended()

    said = "".join(event["text"] for event in parent.events("said"))
    assert status == 1
    assert f"Cannot listen on unix:{tmp_path}/check-2.sock: a file that is no socket" in said
    assert "Worker 2 ended before it served, with exit status 1." in said
    assert [event["worker"] for event in parent.events("worker_stopped")][-1:] == [1]


async def test_a_second_parent_does_not_take_the_first_ones_workers_for_its_own(
    parent: Parent,
) -> None:
    second = Parent(parent.folder, log="second")
    async with second.running():
        status = await second.ended()

    assert status == 1
    assert "another process serves there." in second.events("said")[0]["text"]
    assert await parent.serves(1)


async def test_it_stops_in_order_and_leaves_nobody(parent: Parent) -> None:
    """Comes last, since it ends what the others share."""
    workers, line = parent.pids(), parent.lines()
    parent.signal(signal.SIGTERM)
    status = await parent.ended()
    await until_gone(*workers.values())

    assert status == 0
    assert [event["status"] for event in parent.events("worker_stopped", after=line)] == [0, 0]
    assert len(parent.events("stopped", after=line)) == len(workers) == 2


def seconds_between(first: Mapping[str, str], second: Mapping[str, str]) -> float:
    """Between two lines of the log."""
    times = [datetime.fromisoformat(event["timestamp"]) for event in (first, second)]
    return (times[1] - times[0]).total_seconds()
