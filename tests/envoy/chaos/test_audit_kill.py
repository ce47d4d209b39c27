"""Kill -9 under load: whatever the MCP server heard of is on record, and the chain holds.

Twenty times for each durability: `python -m tests.envoy.chaos.kills`.
"""

from pathlib import Path

from tests.envoy.chaos.audited import audited, verified
from tests.envoy.chaos.kills import Killed, kill_under_load

KILLS = 4


async def test_killed_again_and_again_each_call_that_arrived_has_its_record(tmp_path: Path) -> None:
    """One replica has its records `written`, the other `synced`; both are killed at once."""
    kills: list[Killed] = []
    audit = tmp_path / "audit"
    audit.mkdir()
    async with audited(tmp_path, audit) as gate:
        users = await gate.warm_users()
        while sum(each.processes for each in kills) < KILLS:
            kills.append(await kill_under_load(gate, users))
        reports = [verified(replica, tmp_path) for replica in gate.replicas]

    assert min(each.newly_heard for each in kills) > 10
    assert set[str]().union(*(each.missing for each in kills)) == set()
    assert set[str]().union(*(each.unrecorded_allows for each in kills)) == set()
    assert [report.breaks for report in reports] == [(), ()]
    for report in reports:
        (chain,) = report.chains
        assert chain.signed_to is not None
        assert chain.unsigned_records < chain.records / 2
