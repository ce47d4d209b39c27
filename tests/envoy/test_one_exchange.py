"""However many calls come at once: one exchange for a user at a server."""

import asyncio
from collections.abc import Sequence

import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import HEADERS, bearer, http_client, subject, whoami

AT_ONCE = 100


@pytest.mark.parametrize("users", [("alice",), ("alice", "carol")], ids=" and ".join)
async def test_a_hundred_first_calls_at_once_cost_one_exchange_a_user(
    world: World, front: Front, users: Sequence[str]
) -> None:
    tokens = {f"00u-{user}": world.sign_in(user) for user in users}
    before = world.counts()
    async with http_client() as http:

        async def caller(token: str) -> str:
            headers = {**HEADERS, **bearer(token)}
            return subject(
                await http.post(front.server_url("crm"), content=whoami(), headers=headers)
            )

        expected = sorted(tokens) * AT_ONCE
        subjects = await asyncio.gather(*(caller(tokens[one]) for one in expected))
    after = world.counts()

    assert subjects == expected
    assert after.leg1 - before.leg1 == len(users)
    assert after.leg2["crm"] - before.leg2["crm"] == len(users)
    assert after.leg2["wiki"] == before.leg2["wiki"]
