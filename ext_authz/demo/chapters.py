"""The chapters of the demo's story. Each acts as a user would, then says what must have held."""

import asyncio
import contextlib
import time
from typing import Final

from ext_authz.demo.client import Connection, Era, HttpFailure, RequestFailedError, connect
from ext_authz.demo.front import Front
from ext_authz.demo.narrator import Narrator
from ext_authz.demo.wiki_authorization_server import ACCESS_TOKEN_SECONDS
from ext_authz.demo.world import World

_STREAMED: Final = 4
_APART_SECONDS: Final = 0.25
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_BETWEEN_TRIES_SECONDS: Final = 1.5
MCP_PATH: Final = "/mcp"


async def alice_uses_both_servers(narrator: Narrator, world: World, front: Front) -> None:
    narrator.chapter("Alice signs in once, and uses both MCP servers without another question.")
    token = world.sign_in("alice")
    async with connect(front.server_url("crm"), token, era=Era.SESSION) as crm:
        tools = await crm.list_tools()
        narrator.say(f"   crm ({crm.protocol_version}, with a session) offers {', '.join(tools)}")
        created = await crm.call("create_ticket", title="Printer on fire")
        narrator.expect(f"crm: create_ticket gave {created.value}", holds=not created.is_error)
        await _expect_own_name(narrator, crm, "crm", "00u-alice")
        await _watch(narrator, crm)
    async with connect(front.server_url("wiki"), token, era=Era.STATELESS) as wiki:
        tools = await wiki.list_tools()
        narrator.say(f"   wiki ({wiki.protocol_version}, stateless) offers {', '.join(tools)}")
        found = await wiki.call("search_pages", query="a")
        narrator.expect(f"wiki: search_pages found {found.value}", holds=not found.is_error)
        await _expect_own_name(narrator, wiki, "wiki", "00u-alice")
    counts = world.counts()
    narrator.expect(
        f"one exchange a server: {counts.leg1} ID-JAGs, {sum(counts.leg2.values())} redeemed",
        holds=counts.leg1 == sum(counts.leg2.values()) == len(("crm", "wiki")),
    )


async def bob_is_refused_by_policy(narrator: Narrator, world: World, front: Front) -> None:
    narrator.chapter("Bob may read tickets; the identity provider's policy gives him nothing else.")
    token = world.sign_in("bob")
    async with connect(front.server_url("crm"), token) as crm:
        answer = await crm.call("whoami")
        narrator.expect(
            f"crm: whoami says {answer.value}", holds=answer.value.get("scope") == "tickets.read"
        )
    failure = await _failure_of(front.server_url("wiki"), token, "whoami")
    _expect_denial(narrator, "the wiki", failure, _FORBIDDEN, "policy_denied")


async def carol_is_switched_off(narrator: Narrator, world: World, front: Front) -> None:
    narrator.chapter("Carol works, is disabled at the identity provider, and is refused.")
    token = world.sign_in("carol")
    async with connect(front.server_url("wiki"), token) as wiki:
        await _expect_own_name(narrator, wiki, "wiki", "00u-carol")
    world.disable("carol")
    narrator.say("   the administrator disables carol")
    failure = await _failure_of(front.server_url("crm"), token, "whoami")
    _expect_denial(narrator, "a server new to her", failure, _UNAUTHORIZED, "subject_token_refused")
    seconds, failure = await _until_refused(front.server_url("wiki"), token)
    _expect_denial(narrator, "the wiki", failure, _UNAUTHORIZED, "subject_token_refused")
    narrator.expect(
        f"the last call that passed came {seconds:.1f} s after she was disabled;"
        f" the wiki's tokens live {ACCESS_TOKEN_SECONDS} s",
        holds=seconds <= ACCESS_TOKEN_SECONDS,
    )


async def strangers_are_sent_to_sign_in(narrator: Narrator, world: World, front: Front) -> None:
    narrator.chapter("No token, and a forged one: 401, and where to sign in.")
    pointer = f'resource_metadata="{front.url}/.well-known/oauth-protected-resource/crm/mcp"'
    for name, token in (("no token", ""), ("a forged token", _forged(world.sign_in("alice")))):
        failure = await _failure_of(front.server_url("crm"), token, "whoami")
        reason = "token_signature_invalid" if token else "token_missing"
        _expect_denial(narrator, name, failure, _UNAUTHORIZED, reason)
        header = failure.www_authenticate if failure else ""
        narrator.expect(f"WWW-Authenticate: {header}", holds=pointer in header)


def what_the_servers_saw(narrator: Narrator, world: World) -> None:
    narrator.chapter(
        "What reached the MCP servers: each call with its user's token for that server."
    )
    notes = [
        (name, note)
        for name, notes in world.witnessed().items()
        for note in notes
        if note.path == MCP_PATH  # the CRM's port has its authorization server too
    ]
    bearers = sorted(
        {(name, note.bearer.sub, note.bearer.aud) for name, note in notes if note.bearer}
    )
    narrator.table(("server", "whose token", "audience"), bearers)
    sites = {"crm": world.crm, "wiki": world.wiki}
    narrator.expect(
        "every token was made for the server that got it",
        holds=all(sites[name].resource in audience for name, _, audience in bearers),
    )
    narrator.expect("every request carried one", holds=all(note.bearer for _, note in notes))
    narrator.expect("no user token among them", holds=world.user_tokens_seen() == 0)


async def _expect_own_name(narrator: Narrator, server: Connection, name: str, subject: str) -> None:
    answer = await server.call("whoami")
    narrator.expect(
        f"{name}: whoami says {answer.value}", holds=answer.value.get("subject") == subject
    )


async def _watch(narrator: Narrator, crm: Connection) -> None:
    _, pieces = await crm.call_watching(
        "watch_tickets", count=_STREAMED, delay_seconds=_APART_SECONDS
    )
    arrivals = [piece.seconds for piece in pieces]
    narrator.expect(
        "a streamed result arrives piece by piece: "
        + ", ".join(f"{seconds:.2f} s" for seconds in arrivals),
        holds=len(arrivals) == _STREAMED
        and arrivals[-1] - arrivals[0] > _APART_SECONDS * (_STREAMED - 2),
    )


async def _failure_of(url: str, token: str, tool: str) -> HttpFailure | None:
    """The HTTP failure that calling `tool` ends in; None where it succeeds."""
    try:
        async with connect(url, token) as server:
            await server.call(tool)
    except RequestFailedError as error:
        return error.failure
    return None


async def _until_refused(url: str, token: str) -> tuple[float, HttpFailure | None]:
    """Calls until refused; gives the seconds after which the last call that passed was made."""
    began = time.monotonic()
    passed, seconds, failure = 0.0, 0.0, None
    while failure is None and seconds < 2 * ACCESS_TOKEN_SECONDS:
        passed = seconds
        await asyncio.sleep(_BETWEEN_TRIES_SECONDS)
        seconds = time.monotonic() - began
        failure = await _failure_of(url, token, "whoami")
    return passed, failure


def _expect_denial(
    narrator: Narrator, where: str, failure: HttpFailure | None, status: int, reason: str
) -> None:
    seen = (failure.status, _reason(failure)) if failure else "no refusal"
    narrator.expect(f"{where}: {seen}", holds=seen == (status, reason))


def _reason(failure: HttpFailure) -> str:
    with contextlib.suppress(TypeError, KeyError):
        return str(failure.body["error"]["data"]["reason"])
    return ""


def _forged(token: str) -> str:
    """The same token, the first letter of its signature another one."""
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
