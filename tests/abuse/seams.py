"""The places at which the pipeline can be made to fail: its stages' calls, and whatever it awaits.

Each is one method of one part, as the rig holds it; where a stage is a plain function, the part is
the module that calls it. Faults at these places cross every `await` between there and the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from ext_authz import check
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.exchange import access_tokens, token_endpoint
from ext_authz.exchange.token_cache import TokenCache
from tests.abuse.faults import RETURNED
from tests.abuse.rig import AUTH, IDP, Rig
from tests.doubles.loopback import Dial

NOTHING: Final = frozenset[str]()
ANYTHING: Final = frozenset(RETURNED)
NONE: Final = frozenset({"None"})


async def _ask(rig: Rig) -> CheckResponse:
    return await rig.ask()


def _as_it_is(_rig: Rig) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """One such place: the call number `call` of `method` of `part`, on the way that `ask` goes.

    `prepare` brings about the circumstances in which it is reached. What it returns is a fault
    unless it is named in `takes`: where a result is not looked at, or means "not there".
    """

    name: str
    part: Callable[[Rig], object]
    method: str
    call: int = 0
    prepare: Callable[[Rig], None] = _as_it_is
    ask: Callable[[Rig], Awaitable[CheckResponse]] = _ask
    takes: frozenset[str] = NOTHING
    is_awaited: bool = True
    served: int = 0  # calls that `ask` makes, and that are served, before it is reached


# ---- the parts


def _tokens(rig: Rig) -> access_tokens.AccessTokens:
    return rig.check._access_tokens


def _keys(rig: Rig) -> Any:
    return rig.issuers.keys[IDP]


def _store(rig: Rig) -> Any:
    return _tokens(rig)._cache._store


def _leg_1(rig: Rig) -> Any:
    return rig.issuers.id_jags[IDP]


def _leg_2(rig: Rig) -> Any:
    return rig.issuers.redeemers[AUTH]


# ---- the circumstances


def _no_connection_at_first(rig: Rig) -> None:
    rig.roads.leg_1.failed_connections = 1


def _first_id_jag_refused(rig: Rig) -> None:
    rig.authorization_server.token.next = [Dial(error="invalid_grant")]


def _leg_1_refused(rig: Rig) -> None:
    rig.idp.token.next = [Dial(error="access_denied")]


def _leg_1_redirects(rig: Rig) -> None:
    rig.idp.token.next = [Dial(status=302)]


def _no_room(rig: Rig) -> None:
    _tokens(rig)._cache = TokenCache(rig.time.clock, max_entries=0)


class _SharedByOne:
    """A shared cache that nobody else is at."""

    async def token(self, *args: Any, **_: Any) -> Any:
        return await args[-1]()


def _share(rig: Rig) -> None:
    _tokens(rig)._shared = cast("Any", _SharedByOne())


async def _ask_for_metadata(rig: Rig) -> CheckResponse:
    request = rig.request()
    request.attributes.request.http.method = "GET"
    request.attributes.request.http.path = "/.well-known/oauth-protected-resource/crm"
    return await rig.answer(request)


async def _ask_with_a_known_token(rig: Rig) -> CheckResponse:
    """With a token that was verified before."""
    request = rig.request(rig.idp.sign_in())
    await rig.answer(request)
    return await rig.answer(request)


async def _ask_after_an_older_token(rig: Rig) -> CheckResponse:
    """Joins a run that was begun with another token of the same session, which is then refused."""
    gate = asyncio.Event()
    rig.idp.token.next = [Dial(error="invalid_grant", gate=gate)]
    older = asyncio.create_task(rig.answer(rig.request(iat=rig.time.now - 1)))
    await _everyone_waits()
    newer = asyncio.create_task(rig.answer(rig.request()))
    await _everyone_waits()
    gate.set()
    await older
    return await newer


async def _everyone_waits() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


SEAMS: Final = (
    # the stages, in the order of the story
    Seam(name="facts", part=lambda _: check, method="read_facts", is_awaited=False),
    Seam(name="server", part=lambda r: r.check._catalogue, method="server_of", is_awaited=False),
    Seam(
        name="document",
        part=lambda r: r.check._metadata,
        method="document",
        ask=_ask_for_metadata,
        is_awaited=False,
    ),
    Seam(name="message", part=lambda _: check, method="read_message", is_awaited=False),
    Seam(name="user token", part=lambda _: check, method="user_token", is_awaited=False),
    Seam(name="user", part=lambda r: r.check._users, method="verify"),
    Seam(name="access token", part=_tokens, method="token_for"),
    # who the user is
    Seam(name="key", part=_keys, method="find"),
    Seam(
        name="key of a known token",
        part=_keys,
        method="find",
        call=1,
        ask=_ask_with_a_known_token,
        served=1,
        takes=ANYTHING,  # another key than it was verified with: it is verified anew
    ),
    Seam(name="key flight", part=lambda r: _keys(r)._flight, method="run"),
    Seam(name="idp metadata", part=lambda r: _keys(r)._metadata, method="get"),
    Seam(name="idp metadata flight", part=lambda r: _keys(r)._metadata._flight, method="run"),
    Seam(name="idp metadata GET", part=lambda r: r.roads.idp_metadata, method="ask"),
    Seam(name="jwks GET", part=lambda r: r.roads.jwks, method="ask"),
    Seam(name="jwks body", part=lambda r: r.roads.jwks, method="read"),
    Seam(name="jwks close", part=lambda r: r.roads.jwks, method="close", takes=ANYTHING),
    # their token at the server, from memory
    Seam(
        name="cache key",
        part=lambda _: access_tokens,
        method="cache_key",
        takes=ANYTHING,
        is_awaited=False,
    ),
    Seam(name="cache get", part=lambda r: _tokens(r)._cache, method="get", takes=NONE),
    Seam(name="store get", part=_store, method="get", takes=ANYTHING),
    Seam(name="store delete", part=_store, method="delete", takes=ANYTHING),
    Seam(
        name="recall",
        part=lambda r: _tokens(r)._failures,
        method="recall",
        takes=NONE,
        is_awaited=False,
    ),
    # or by both legs
    Seam(name="flight", part=lambda r: _tokens(r)._flight, method="run"),
    Seam(
        name="second flight",
        part=lambda r: _tokens(r)._flight,
        method="run",
        call=2,
        ask=_ask_after_an_older_token,
    ),
    Seam(name="shared", part=lambda r: _tokens(r)._shared, method="token", prepare=_share),
    Seam(name="leg 1", part=_leg_1, method="obtain"),
    Seam(name="leg 1 location", part=lambda r: _leg_1(r)._endpoint, method="_locate"),
    Seam(name="leg 1 endpoint", part=lambda r: _leg_1(r)._endpoint, method="post"),
    Seam(name="leg 1 POST", part=lambda r: r.roads.leg_1, method="ask"),
    Seam(
        name="leg 1 POST again",
        part=lambda r: r.roads.leg_1,
        method="ask",
        call=1,
        prepare=_no_connection_at_first,
    ),
    Seam(name="leg 1 body", part=lambda r: r.roads.leg_1, method="read"),
    Seam(name="leg 1 close", part=lambda r: r.roads.leg_1, method="close", takes=ANYTHING),
    Seam(
        name="leg 1 close unread",
        part=lambda r: r.roads.leg_1,
        method="close",
        prepare=_leg_1_redirects,
        takes=ANYTHING,
    ),
    Seam(name="second leg 1", part=_leg_1, method="obtain", call=1, prepare=_first_id_jag_refused),
    Seam(
        name="credentials",
        part=lambda _: token_endpoint,
        method="credentials_for",
        is_awaited=False,
    ),
    Seam(name="leg 2", part=_leg_2, method="redeem"),
    Seam(name="leg 2 location", part=lambda r: _leg_2(r)._endpoint, method="_locate"),
    Seam(name="as metadata GET", part=lambda r: r.roads.as_metadata, method="ask"),
    Seam(name="leg 2 endpoint", part=lambda r: _leg_2(r)._endpoint, method="post"),
    Seam(name="leg 2 POST", part=lambda r: r.roads.leg_2, method="ask"),
    Seam(name="leg 2 body", part=lambda r: r.roads.leg_2, method="read"),
    Seam(name="second leg 2", part=_leg_2, method="redeem", call=1, prepare=_first_id_jag_refused),
    # and into memory
    Seam(
        name="remember",
        part=lambda r: _tokens(r)._failures,
        method="remember",
        prepare=_leg_1_refused,
        takes=ANYTHING,
        is_awaited=False,
    ),
    Seam(
        name="forget",
        part=lambda r: _tokens(r)._failures,
        method="forget",
        takes=ANYTHING,
        is_awaited=False,
    ),
    Seam(name="cache put", part=lambda r: _tokens(r)._cache, method="put", takes=ANYTHING),
    Seam(name="store set", part=_store, method="set", takes=ANYTHING),
    Seam(
        name="store make room",
        part=_store,
        method="delete",
        call=1,
        prepare=_no_room,
        takes=ANYTHING,
    ),
)
