"""Each MCP server gets the token of the user who asks, and one made for itself."""

import asyncio
from itertools import product

import pytest

from ext_authz.demo.client import Era, connect
from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import HEADERS, bearer, http_client, subject, whoami
from tests.envoy.test_eras import ERAS, SERVERS
from tests.envoy.witnessed import reaching

USERS = ("alice", "carol")
CALLS = 200


@ERAS
@SERVERS
@pytest.mark.parametrize("user", USERS)
async def test_every_request_of_a_user_carries_their_token_for_that_server(
    world: World, front: Front, user: str, server: str, era: Era
) -> None:
    site = {"crm": world.crm, "wiki": world.wiki}[server]
    with reaching(server, world) as notes:
        async with connect(front.server_url(server), world.sign_in(user), era=era) as connection:
            await connection.call("whoami")

    (token,) = {note.bearer for note in notes}
    assert token is not None
    assert (token.iss, token.sub, token.aud) == (site.issuer, f"00u-{user}", site.resource)
    assert token.client_id == site.client_id
    assert token.scope.split() == list(site.scopes)


async def test_two_users_calling_two_servers_at_once_are_never_mixed_up(
    world: World, front: Front
) -> None:
    tokens = {user: world.sign_in(user) for user in USERS}
    rounds = CALLS // (len(USERS) * 2)
    calls = [pair for _ in range(rounds) for pair in product(USERS, ("crm", "wiki"))]
    async with http_client() as http:

        async def caller(user: str, server: str) -> str:
            headers = {**HEADERS, **bearer(tokens[user])}
            return subject(
                await http.post(front.server_url(server), content=whoami(), headers=headers)
            )

        subjects = await asyncio.gather(*(caller(user, server) for user, server in calls))

    assert subjects == [f"00u-{user}" for user, _ in calls]
    assert len(subjects) == CALLS
    assert world.user_tokens_seen() == 0
