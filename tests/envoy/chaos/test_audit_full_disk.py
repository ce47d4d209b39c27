"""A full audit disk under load: nobody gets in without a record, and nothing is hidden of it.

Twenty times for each durability, with a kill each time: `python -m tests.envoy.chaos.full_disk`.
"""

from pathlib import Path

import pytest

from tests.envoy.chaos.audited import audited, verified
from tests.envoy.chaos.full_disk import Limited, full_under_load


@pytest.mark.parametrize("durability", ["written", "synced"])
async def test_a_full_disk_lets_nobody_in_and_the_log_says_how_many_records_it_lost(
    tmp_path: Path, durability: str
) -> None:
    audit = tmp_path / "audit"
    audit.mkdir()
    async with audited(tmp_path, audit, {"one": durability}) as gate:
        users = await gate.warm_users()
        first = await full_under_load(gate, users, Limited(), is_killed=False)
        process = gate.replicas[0].process
        assert process.returncode is None
        second = await full_under_load(gate, users, Limited(), is_killed=True)
        (replica,) = gate.replicas
        report = verified(replica, tmp_path)

    for borne in (first, second):
        assert {(one.status, one.reason) for one in borne.answers} == {(503, "audit_unavailable")}
        assert borne.arrived == 0
        assert borne.counted.missing == set()
        assert borne.unrecorded_allows == set()
    assert [lost["records"] for lost in first.lost] == [first.unavailable]
    assert first.unavailable > 10
    assert report.breaks == ()
