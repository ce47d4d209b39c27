"""Both eras of MCP through the front, with the official client and on both MCP servers."""

import httpx2
import pytest

from ext_authz.demo.client import Era, connect
from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import bearer
from tests.envoy.witnessed import reaching

ERAS = pytest.mark.parametrize("era", list(Era))
SERVERS = pytest.mark.parametrize("server", ["crm", "wiki"])
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


@ERAS
@SERVERS
async def test_the_official_client_lists_and_calls_tools(
    front: Front, alice: str, server: str, era: Era
) -> None:
    async with connect(front.server_url(server), alice, era=era) as connection:
        tools = await connection.list_tools()
        answer = await connection.call("whoami")

        assert connection.protocol_version == era.value
        assert "whoami" in tools
        assert answer.value["subject"] == "00u-alice"


@SERVERS
async def test_with_sessions_it_shakes_hands_listens_and_says_goodbye(
    world: World, front: Front, alice: str, server: str
) -> None:
    with reaching(server, world) as notes:
        async with connect(front.server_url(server), alice, era=Era.SESSION) as connection:
            await connection.list_tools()
    seen = {(note.http_method, note.mcp_method): note.status for note in notes}

    assert seen == {
        ("POST", "initialize"): 200,
        ("POST", "notifications/initialized"): 202,
        ("GET", ""): 200,
        ("POST", "tools/list"): 200,
        ("DELETE", ""): 200,
    }


@SERVERS
async def test_without_sessions_there_are_only_posts(
    world: World, front: Front, alice: str, server: str
) -> None:
    with reaching(server, world) as notes:
        async with connect(front.server_url(server), alice, era=Era.STATELESS) as connection:
            await connection.list_tools()

    assert {(note.http_method, note.protocol_version) for note in notes} == {("POST", "2026-07-28")}
    assert "initialize" not in {note.mcp_method for note in notes}


@SERVERS
def test_a_session_id_goes_through_both_ways(front: Front, alice: str, server: str) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    with httpx2.Client(trust_env=False, headers={**bearer(alice), **accept}) as http:

        def ask(method: str, params: object) -> httpx2.Response:
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return http.post(front.server_url(server), json=message)

        http.headers["mcp-session-id"] = ask("initialize", INITIALIZE).headers["mcp-session-id"]
        http.headers["mcp-protocol-version"] = "2025-11-25"

        assert ask("tools/list", {}).status_code == 200
        assert http.delete(front.server_url(server)).status_code == 200
        assert ask("tools/list", {}).status_code == 404


@ERAS
async def test_the_wiki_gives_its_resources_and_prompts(front: Front, alice: str, era: Era) -> None:
    async with connect(front.server_url("wiki"), alice, era=era) as wiki:
        assert "second floor" in await wiki.read_resource("wiki://pages/Printers")
        assert "second floor" in await wiki.get_prompt("summarise", title="Printers")
