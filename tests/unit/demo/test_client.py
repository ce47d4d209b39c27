"""The user's MCP client, and what it makes of servers that fail."""

import httpx2
import pytest

from ext_authz.demo.client import Era, HttpFailure, RequestFailedError, connect
from ext_authz.demo.world import World

from .conftest import Hub

ERAS = pytest.mark.parametrize("era", list(Era))


@ERAS
async def test_a_refusal_is_told_with_status_challenge_and_body(world: World, era: Era) -> None:
    with pytest.raises(RequestFailedError) as failed:
        async with connect(world.wiki.resource, era=era) as connection:
            await connection.call("whoami")
    failure = failed.value.failure

    assert isinstance(failure, HttpFailure)
    assert failure.status == 401
    assert failure.www_authenticate.startswith("Bearer ")
    assert failure.body["error"] == "invalid_token"
    assert failure.headers["content-type"] == "application/json"
    assert str(failed.value) == "HTTP 401"


@ERAS
async def test_a_failure_without_json_has_no_body(world: World, era: Era) -> None:
    with pytest.raises(RequestFailedError) as failed:
        async with connect(world.crm.resource, era=era) as connection:
            await connection.list_tools()

    assert (failed.value.failure.status, failed.value.failure.body) == (401, None)


@ERAS
async def test_an_error_of_the_callers_comes_out_as_itself(
    world: World, hub: Hub, era: Era
) -> None:
    token = hub.access_token("alice", world.wiki)
    with pytest.raises(ZeroDivisionError):
        async with connect(world.wiki.resource, token, era=era):
            raise ZeroDivisionError


@ERAS
async def test_a_server_that_is_not_there_is_a_connection_error(world: World, era: Era) -> None:
    nobody = f"http://127.0.0.1:{world.ports.front}/mcp"
    with pytest.raises(httpx2.ConnectError):
        async with connect(nobody, era=era) as connection:
            await connection.list_tools()


@ERAS
async def test_extra_headers_are_sent_along(world: World, hub: Hub, era: Era) -> None:
    headers = {"x-told": world.sign_in("alice")}
    token = hub.access_token("alice", world.wiki)
    async with connect(world.wiki.resource, token, era=era, headers=headers) as connection:
        await connection.list_tools()

    notes = [note for note in world.witnessed()["wiki"] if note.mcp_method == "tools/list"]
    assert notes[-1].user_tokens_in == ("x-told",)
