"""The two MCP servers, called with their access tokens in both eras of the protocol."""

from collections.abc import Mapping

import httpx2
import pytest

from ext_authz.demo.client import Era, RequestFailedError, connect
from ext_authz.demo.site import Site
from ext_authz.demo.world import World

from .conftest import Hub

ERAS = pytest.mark.parametrize("era", list(Era))


@ERAS
async def test_the_server_knows_the_user_and_never_saw_their_token(
    hub: Hub, site: Site, era: Era
) -> None:
    seen_before = hub.world.user_tokens_seen()
    async with connect(site.resource, hub.access_token("alice", site), era=era) as connection:
        assert connection.protocol_version == era.value
        answer = await connection.call("whoami")

    assert answer.value == {"subject": "00u-alice", "scope": " ".join(site.scopes)}
    assert hub.world.user_tokens_seen() == seen_before


@ERAS
async def test_the_crm_opens_and_lists_tickets(world: World, hub: Hub, era: Era) -> None:
    token = hub.access_token("alice", world.crm)
    async with connect(world.crm.resource, token, era=era) as connection:
        await connection.call("create_ticket", title=f"Ticket of {era}")
        tickets = await connection.call("list_tickets")

    assert f"Ticket of {era}" in tickets.value


@ERAS
async def test_the_crm_hides_writing_from_those_who_may_only_read(
    world: World, hub: Hub, era: Era
) -> None:
    token = hub.access_token("bob", world.crm)
    async with connect(world.crm.resource, token, era=era) as connection:
        tools = await connection.list_tools()
        answer = await connection.call("create_ticket", title="x")

    assert tools == ("list_tickets", "whoami", "watch_tickets")
    assert answer.is_error
    assert "Unknown tool" in answer.text


@ERAS
async def test_the_wiki_has_pages_a_resource_and_a_prompt(world: World, hub: Hub, era: Era) -> None:
    token = hub.access_token("carol", world.wiki)
    async with connect(world.wiki.resource, token, era=era) as connection:
        assert await connection.list_tools() == ("search_pages", "read_page", "whoami")
        assert (await connection.call("search_pages", query="LUNCH")).value == ["Onboarding"]
        assert "closed" in (await connection.call("read_page", title="Holidays")).text
        assert "second floor" in await connection.read_resource("wiki://pages/Printers")
        assert "second floor" in await connection.get_prompt("summarise", title="Printers")
        assert "no such page" in (await connection.call("read_page", title="Secrets")).text


@ERAS
async def test_progress_arrives_piece_by_piece_while_the_call_runs(
    world: World, hub: Hub, era: Era
) -> None:
    token = hub.access_token("alice", world.crm)
    async with connect(world.crm.resource, token, era=era) as connection:
        answer, pieces = await connection.call_watching("watch_tickets", count=4, delay_seconds=0.1)

    assert answer.text == "4 changes"
    assert [piece.message for piece in pieces] == [f"change {n}" for n in (1, 2, 3, 4)]
    assert pieces[-1].seconds - pieces[0].seconds > 0.15  # had they been held back: 0


@ERAS
async def test_the_users_own_token_is_refused_and_the_witness_counts_it(
    world: World, site: Site, era: Era
) -> None:
    before = world.witnesses[site.name].user_tokens_seen
    with pytest.raises(RequestFailedError) as failed:
        async with connect(site.resource, world.sign_in("alice"), era=era) as connection:
            await connection.list_tools()
    note = world.witnessed()[site.name][-1]

    assert failed.value.failure.status == 401
    assert 'error="invalid_token"' in failed.value.failure.www_authenticate
    assert "/.well-known/oauth-protected-resource/mcp" in failed.value.failure.www_authenticate
    assert world.witnesses[site.name].user_tokens_seen == before + 1
    assert note.user_tokens_in == ("authorization",)
    assert note.status == 401


@ERAS
async def test_a_token_of_one_server_opens_no_other(world: World, hub: Hub, era: Era) -> None:
    for ours, theirs in ((world.crm, world.wiki), (world.wiki, world.crm)):
        token = hub.access_token("alice", theirs)
        with pytest.raises(RequestFailedError) as failed:
            async with connect(ours.resource, token, era=era) as connection:
                await connection.list_tools()
        assert failed.value.failure.status == 401


async def test_a_session_belongs_to_the_user_who_opened_it(hub: Hub, site: Site) -> None:
    def ask(user: str, body: Mapping[str, object], **headers: str) -> httpx2.Response:
        headers |= {
            "authorization": f"Bearer {hub.access_token(user, site)}",
            "accept": "application/json, text/event-stream",
        }
        message = {"jsonrpc": "2.0", "id": 1, **body}
        return hub.http.post(site.resource, json=message, headers=headers)

    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    opened = ask("alice", {"method": "initialize", "params": params})
    session = opened.headers["mcp-session-id"]
    listing = {"method": "tools/list"}

    assert ask("alice", listing, **{"mcp-session-id": session}).status_code == 200
    assert ask("carol", listing, **{"mcp-session-id": session}).status_code == 404


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_requests_under_the_fronts_name_are_answered(hub: Hub, site: Site, name: str) -> None:
    host = f"{name}:{hub.world.ports.front}"

    assert call_with(hub, site, {"host": host}).status_code == 200
    assert call_with(hub, site, {"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 421), ({"origin": "http://evil.example"}, 403)],
)
def test_requests_under_another_name_are_not(
    hub: Hub, site: Site, headers: dict[str, str], status: int
) -> None:
    assert call_with(hub, site, headers).status_code == status


def call_with(hub: Hub, site: Site, headers: dict[str, str]) -> httpx2.Response:
    """A tools/list of the stateless era."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return hub.http.post(
        site.resource,
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}},
        headers={
            "authorization": f"Bearer {hub.access_token('alice', site)}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/list",
            **headers,
        },
    )
