"""G, the cache and the single flight: whose token it is, how long, and what it costs."""

import asyncio
import copy
import gc
import json
import pickle
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from pathlib import Path

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.exchange.access_token import MARGIN_SECONDS, MAX_AGE_SECONDS, AccessToken, Source
from ext_authz.exchange.cache_key import cache_key
from ext_authz.exchange.failure_memory import DEFAULT_SECONDS
from ext_authz.exchange.token_cache import TokenCache
from ext_authz.identity.claims import LEEWAY_SECONDS
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import (
    AssertionAudience,
    AuthMethod,
    AuthorizationServer,
    IdentityProvider,
    Match,
    McpServer,
    OAuthClient,
    SubjectToken,
)
from tests.abuse.denied import Seen, check_denial, denied, denied_unproven, exchanges, records_of
from tests.abuse.rig import Rig
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.signing_keys import signing_key
from tests.doubles.tokens import ABSENT
from tests.pipeline.gateway import Answer, Gateway

pytestmark = pytest.mark.usefixtures("no_authorities", "credentials")
Ask = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


def source(gateway: Gateway, answer: Answer) -> object:
    """How the token of `answer` was come by."""
    (record,) = records_of(gateway, answer)
    return record["token_source"]


def life(gateway: Gateway, expires_in: object) -> None:
    gateway.authorization_server.token.dial = Dial(members={"expires_in": expires_in})


# ---- G1: no two that differ in anything share a key

# Few characters, and those that separate: parts run into one another if they can at all.
tricky = st.text(alphabet="a:=|,'\"\0 \x01\\", min_size=1, max_size=4)
maybe = st.none() | tricky | st.just("")
clients = st.builds(
    OAuthClient,
    id=tricky,
    auth=st.sampled_from(AuthMethod),
    credential=st.builds(SecretSource, env=maybe, file=maybe),
    algorithm=tricky,
    key_id=maybe,
    assertion_audience=st.sampled_from(AssertionAudience),
)
several = st.lists(tricky, max_size=3, unique=True).map(lambda texts: tuple(sorted(texts)))
providers = st.builds(
    IdentityProvider,
    issuer=tricky,
    audience=several,
    subject_token=st.sampled_from(SubjectToken),
    algorithms=several,
    client=clients,
    token_endpoint=maybe,
    jwks_uri=maybe,
    sign_in_scopes=several,
)
users = st.builds(
    VerifiedUser,
    provider=providers,
    issuer=tricky,
    subject=tricky,
    session=maybe,
    acr=maybe,
    agent=maybe,
    expires_at=st.just(0),
    token=st.just(Secret("user.token.x")),
)
servers = st.builds(
    McpServer,
    name=tricky,
    url=tricky,
    resource=tricky,
    authorization_server=st.builds(
        AuthorizationServer, issuer=tricky, client=clients, token_endpoint=maybe
    ),
    scopes=several,
    match=st.none() | st.builds(Match, host=tricky, path_prefix=tricky),
)
without_a_stopwatch = settings(deadline=None, max_examples=100)


@given(users, servers, users, servers)
@without_a_stopwatch
def test_g1_keys_are_equal_only_where_everything_is(
    user: VerifiedUser, server: McpServer, other_user: VerifiedUser, other_server: McpServer
) -> None:
    same = (user, server) == (other_user, other_server)

    assert (cache_key(user, server) == cache_key(other_user, other_server)) is same


USER_PARTS = {field.name for field in fields(VerifiedUser)} - {"expires_at", "token"}
SERVER_PARTS = {field.name for field in fields(McpServer)}


@given(st.sampled_from(sorted(USER_PARTS)), users, servers, users)
@without_a_stopwatch
def test_g1_any_part_of_the_user_makes_another_key(
    part: str, user: VerifiedUser, server: McpServer, other: VerifiedUser
) -> None:
    changed = replace(user, **{part: getattr(other, part)})

    assert (cache_key(changed, server) == cache_key(user, server)) is (changed == user)


@given(st.sampled_from(sorted(SERVER_PARTS)), users, servers, servers)
@without_a_stopwatch
def test_g1_any_part_of_the_server_makes_another_key(
    part: str, user: VerifiedUser, server: McpServer, other: McpServer
) -> None:
    changed = replace(server, **{part: getattr(other, part)})

    assert (cache_key(user, changed) == cache_key(user, server)) is (changed == server)


@given(users, servers, tricky, st.text(alphabet="=\0:|", min_size=1, max_size=3), tricky)
@without_a_stopwatch
def test_g1_no_delimiter_moves_from_one_part_to_the_next(
    user: VerifiedUser, server: McpServer, first: str, delimiter: str, last: str
) -> None:
    pairs = [
        (
            replace(user, issuer=first + delimiter, subject=last),
            replace(user, issuer=first, subject=delimiter + last),
        ),
        (
            replace(user, session=first + delimiter, acr=last),
            replace(user, session=first, acr=delimiter + last),
        ),
    ]

    assert not any(cache_key(one, server) == cache_key(other, server) for one, other in pairs)


@given(users, servers, st.integers(), tricky)
@without_a_stopwatch
def test_g1_a_refreshed_user_token_has_the_same_key(
    user: VerifiedUser, server: McpServer, expires_at: int, token: str
) -> None:
    """A decision: the token itself is no part of it, since providers meter ID-JAGs."""
    refreshed = replace(user, expires_at=expires_at, token=Secret(token))

    assert cache_key(refreshed, server) == cache_key(user, server)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "bob"},
        {"sub": "Alice"},
        {"sid": "session-2"},
        {"sid": ABSENT},
        {"acr": "pwd"},
        {"acr": ABSENT},
        {"azp": "hub"},
        {"client_id": "desktop"},
        {"sub": "alicesession-1", "sid": ABSENT},
        {"sid": "mfa", "acr": "session-1"},
    ],
    ids=str,
)
async def test_g1_whoever_differs_in_anything_gets_a_token_of_their_own(
    gateway: Gateway, claims: dict[str, object], seen: Seen
) -> None:
    alices = await gateway.call()
    other = await gateway.call(token=gateway.sign_in(**claims))

    assert source(gateway, other) == "exchange"
    assert other.authorization != alices.authorization
    seen("allow, each their own")


# ---- G2: nobody's key


@pytest.mark.parametrize("subject", ["", None, ABSENT], ids=["empty", "null", "absent"])
async def test_g2_without_a_subject_nothing_is_looked_up(
    gateway: Gateway, subject: object, seen: Seen
) -> None:
    assert (await gateway.call()).is_allow

    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in(sub=subject)
    )

    seen(f"deny {answer.reason}")


@given(users, servers)
@without_a_stopwatch
def test_g2_an_empty_subject_or_issuer_forms_no_key(user: VerifiedUser, server: McpServer) -> None:
    """Should verification ever let one through."""
    for nobody in (replace(user, subject=""), replace(user, issuer="")):
        with pytest.raises(ValueError, match="empty"):
            cache_key(nobody, server)


@given(users, servers)
@without_a_stopwatch
def test_g2_an_empty_resource_forms_no_key(user: VerifiedUser, server: McpServer) -> None:
    with pytest.raises(ValueError, match="empty"):
        cache_key(user, replace(server, resource=""))


# ---- G3: how long


async def test_g3_a_hit_ends_a_margin_before_the_access_token_does(
    gateway: Gateway, seen: Seen
) -> None:
    """Of somebody else after the end: whoever uses a token near it has it renewed."""
    first = await gateway.call()
    await gateway.call(token=gateway.sign_in(sub="bob"))
    gateway.time.passes(600 - MARGIN_SECONDS - 1)
    last_hit = await gateway.call()
    gateway.time.passes(1)
    after = await gateway.call(token=gateway.sign_in(sub="bob"))

    assert [source(gateway, answer) for answer in (first, last_hit, after)] == [
        "exchange",
        "cache",
        "exchange",
    ]
    seen("allow, exchanged anew")


async def test_g3_a_hit_ends_at_the_longest_age(gateway: Gateway, seen: Seen) -> None:
    life(gateway, 86_400)
    bob = gateway.sign_in(sub="bob", exp=gateway.time.now + 86_400)
    await gateway.call()
    await gateway.call(token=bob)
    gateway.time.passes(MAX_AGE_SECONDS - 1)
    last_hit = await gateway.call()
    gateway.time.passes(1)
    after = await gateway.call(token=bob)

    assert (source(gateway, last_hit), source(gateway, after)) == ("cache", "exchange")
    seen("allow, exchanged anew")


async def test_g3_a_hit_ends_with_the_user_token(gateway: Gateway, seen: Seen) -> None:
    """The access token would live on, and a refreshed user token finds it again: that is decided."""
    token = gateway.sign_in(exp=gateway.time.now + 100)
    assert (await gateway.call(token=token)).is_allow
    gateway.time.passes(100 + LEEWAY_SECONDS)

    answer = await denied_unproven(gateway, Reason.TOKEN_EXPIRED, token=token)

    assert source(gateway, await gateway.call()) == "cache"
    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("seconds", [600, 86_400, 10 * 365 * 86_400])
async def test_g3_a_wall_clock_set_forward_ends_it(
    gateway: Gateway, seconds: int, seen: Seen
) -> None:
    """A machine that slept has a monotonic clock that slept too."""
    await gateway.call()
    gateway.time.jumps(seconds)

    assert source(gateway, await gateway.call()) == "exchange"
    seen("allow, exchanged anew")


@pytest.mark.parametrize("seconds", [-60, -86_400, -10 * 365 * 86_400])
async def test_g3_a_wall_clock_set_back_prolongs_nothing(
    gateway: Gateway, seconds: int, seen: Seen
) -> None:
    await gateway.call()
    gateway.time.jumps(seconds)
    gateway.time.passes(600 - MARGIN_SECONDS)

    assert source(gateway, await gateway.call()) == "exchange"
    seen("allow, exchanged anew")


@pytest.mark.parametrize("seconds", [0, -0.0, -1, -1e9])
async def test_g3_what_has_no_life_left_is_not_stored(
    time: MovableTime, seconds: float, seen: Seen
) -> None:
    """To aiocache a life of 0 is one without end."""
    cache: TokenCache[str] = TokenCache(time.clock)

    await cache.put("key", "value", seconds=seconds)

    assert (len(cache), await cache.get("key")) == (0, None)
    assert not await cache._store.exists("key")
    seen("not stored")


async def test_g3_a_token_of_a_second_is_used_once(gateway: Gateway, seen: Seen) -> None:
    life(gateway, 1)
    await gateway.call()
    gateway.time.passes(1)

    assert source(gateway, await gateway.call()) == "exchange"
    seen("allow, exchanged anew")


# ---- G4: verified before anything is looked up


def forged(gateway: Gateway) -> str:
    impostor = signing_key("ES256", "impostor")
    return gateway.sign_in().rpartition(".")[0] + "." + impostor.sign(b"x").hex()


UNWORTHY: dict[str, tuple[Callable[[Gateway], str], Reason]] = {
    "an expired token": (
        lambda g: g.sign_in(iat=g.time.now - 200, exp=g.time.now - 100),
        Reason.TOKEN_EXPIRED,
    ),
    "a forged token": (forged, Reason.TOKEN_SIGNATURE_INVALID),
    "a token for others": (lambda g: g.sign_in(aud="other"), Reason.TOKEN_AUDIENCE_WRONG),
    "a token of another kind": (
        lambda g: g.sign_in({"typ": "at+jwt"}),
        Reason.TOKEN_CLAIMS_INVALID,
    ),
    "a token of an unknown issuer": (
        lambda g: g.sign_in(iss="https://idp.other.example"),
        Reason.TOKEN_ISSUER_UNKNOWN,
    ),
    "a token in two spellings": (lambda g: g.sign_in() + "=", Reason.TOKEN_MALFORMED),
}


@pytest.mark.parametrize(("token", "reason"), UNWORTHY.values(), ids=UNWORTHY)
async def test_g4_an_unproven_user_is_refused_though_the_cache_is_warm(
    gateway: Gateway, token: Callable[[Gateway], str], reason: Reason, seen: Seen
) -> None:
    assert (await gateway.call()).is_allow

    answer = await denied_unproven(gateway, reason, token=token(gateway))

    assert source(gateway, answer) is None
    seen(f"deny {answer.reason}")


async def test_g4_a_token_that_expires_meanwhile_is_refused_though_the_cache_is_warm(
    gateway: Gateway, seen: Seen
) -> None:
    token = gateway.sign_in(exp=gateway.time.now + 60)
    assert (await gateway.call(token=token)).is_allow
    gateway.time.passes(60 + LEEWAY_SECONDS)

    answer = await denied_unproven(gateway, Reason.TOKEN_EXPIRED, token=token)

    seen(f"deny {answer.reason}")


async def test_g4_a_key_that_is_withdrawn_ends_its_tokens_though_the_cache_is_warm(
    gateway: Gateway, seen: Seen
) -> None:
    token = gateway.sign_in()
    assert (await gateway.call(token=token)).is_allow
    gateway.idp.rotate(signing_key("ES256", "key-2"), drop=True)
    gateway.time.passes(60)
    assert (await gateway.call()).is_allow  # signed by the new key: so the old one is known gone

    answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    seen(f"deny {answer.reason}")


# ---- G5: one exchange for all who ask at once


async def gathered(gateway: Gateway, number: int) -> list[asyncio.Task[Answer]]:
    """So many callers with one user's tokens, while the identity provider keeps them waiting."""
    token = gateway.sign_in()
    calls = [asyncio.create_task(gateway.call(token=token)) for _ in range(number)]
    await gateway.idp.token.called.wait()
    await asyncio.sleep(0.2)
    return calls


async def test_g5_a_hundred_callers_cost_one_exchange(gateway: Gateway, seen: Seen) -> None:
    gate = asyncio.Event()
    gateway.idp.token.dial = Dial(gate=gate)
    calls = await gathered(gateway, 100)
    gate.set()

    answers = await asyncio.gather(*calls)

    sources = [source(gateway, answer) for answer in answers]
    assert exchanges(gateway) == (1, 1)
    assert len({answer.authorization for answer in answers}) == 1
    assert sources.count("exchange") == 1
    seen("allow, one exchange")


async def test_g5_the_first_callers_cancellation_is_nobody_elses(
    gateway: Gateway, seen: Seen
) -> None:
    gate = asyncio.Event()
    gateway.idp.token.dial = Dial(gate=gate)
    first, *others = await gathered(gateway, 100)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.set()

    answers = await asyncio.gather(*others)

    assert first.cancelled()
    assert all(answer.is_allow for answer in answers)
    assert exchanges(gateway) == (1, 1)
    seen("allow, one exchange")


async def test_g5_the_leaders_failure_is_everyones_and_asked_once(
    gateway: Gateway, seen: Seen
) -> None:
    gate = asyncio.Event()
    gateway.idp.token.dial = Dial(gate=gate, error="access_denied")
    calls = await gathered(gateway, 100)
    gate.set()

    for answer in await asyncio.gather(*calls):
        check_denial(gateway, answer, Reason.POLICY_DENIED)

    assert exchanges(gateway) == (1, 0)
    seen("deny policy_denied")


async def test_g5_a_failure_is_remembered_briefly_and_not_for_ever(
    gateway: Gateway, seen: Seen
) -> None:
    gateway.idp.token.dial = Dial(status=500)
    await denied(gateway, Reason.IDP_UNAVAILABLE)
    gateway.idp.token.dial = Dial()
    gateway.time.passes(DEFAULT_SECONDS - 1)

    answer = await denied(gateway, Reason.IDP_UNAVAILABLE)
    gateway.time.passes(1)

    assert (await gateway.call()).is_allow
    assert exchanges(gateway) == (2, 1)
    seen(f"deny {answer.reason}")


# ---- G6: two users at the same instant

ROUNDS = 5_000  # of two Checks each: 10,000


async def test_g6_two_users_at_the_same_instant_never_swap(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process; every twelfth round finds nothing in the cache, and both exchange at once.

    Who starts first changes from round to round; whose leg is answered first is drawn by lot.
    """
    rig = Rig(tmp_path)
    rig.authorization_server.token.dial = Dial(members={"expires_in": 20})
    for road in (rig.roads.leg_1, rig.roads.leg_2):
        monkeypatch.setattr(road, "ask", dawdling(road.ask))
    end = rig.time.now + 6 * 86_400
    requests = {
        name: rig.request(rig.idp.sign_in(sub=name, sid=name, exp=end)) for name in ("alice", "bob")
    }
    for number in range(ROUNDS):
        names = ("alice", "bob") if number % 2 else ("bob", "alice")
        responses = await asyncio.gather(*(rig.check(requests[name]) for name in names))
        for name, response in zip(names, responses, strict=True):
            assert holder(rig, response) == name
        rig.time.passes(10 if number % 12 == 11 else 1)  # past the end, and never near it

    sources = [record["token_source"] for record in rig.records()]
    assert len(sources) == 2 * ROUNDS
    assert sources.count("exchange") > ROUNDS / 10
    seen(f"allow, {2 * ROUNDS} Checks")


def dawdling(ask: Ask) -> Ask:
    """Lets others go first, now and then."""
    lots = random.Random(7)

    async def later(request: httpx2.Request) -> httpx2.Response:
        for _ in range(lots.randrange(4)):
            await asyncio.sleep(0)
        return await ask(request)

    return later


def holder(rig: Rig, response: CheckResponse) -> str:
    """Whose access token it is that Envoy is handed."""
    (header,) = response.ok_response.headers
    return rig.authorization_server.holders[header.header.value.removeprefix("Bearer ")]


# ---- G7: how many


async def test_g7_more_users_than_fit_take_no_more_memory(time: MovableTime, seen: Seen) -> None:
    """100,000 users through a cache of 1,000: nothing stays of who was pushed out."""
    cache: TokenCache[AccessToken] = TokenCache(time.clock, max_entries=1_000)
    blocks = []
    for number in range(100_000):
        await cache.put(f"{number:064x}", access_token(f"user-{number}"), seconds=600)
        if number % 100 == 0:
            await asyncio.sleep(
                0
            )  # as between any two Checks: the loop lets go of cancelled timers
        if number in {20_000, 99_999}:
            gc.collect()
            blocks.append(sys.getallocatedblocks())

    early, late = blocks
    assert len(cache) == len(cache._store._cache) == len(cache._store._handlers) == 1_000
    assert late < early + 10_000  # an entry has a dozen: all of them would be 960,000
    seen("bounded")


async def test_g7_who_was_pushed_out_is_exchanged_for_anew(tmp_path: Path, seen: Seen) -> None:
    rig = Rig(tmp_path)
    rig.check._access_tokens._cache._max_entries = 10
    for number in [*range(30), 0]:
        response = await rig.check(rig.request(sub=f"user-{number}", sid=f"session-{number}"))
        assert holder(rig, response) == f"user-{number}"

    assert len(rig.check._access_tokens._cache) == 10
    assert rig.records()[-1]["token_source"] == "exchange"
    seen("allow, exchanged anew")


def access_token(subject: str) -> AccessToken:
    return AccessToken(
        value=Secret(f"access-token-of-{subject}"),
        issuer="https://idp.corp.example",
        subject=subject,
        resource="https://crm.corp.example/mcp",
        scope=("tickets.read",),
        expires_at=2_000_000_000,
        id_jag_jti="jti",
        source=Source.EXCHANGE,
    )


# ---- G8: what we did not put there

POISONS: dict[str, object] = {
    "a text": "access-token-of-mallory",
    "bytes": b"access-token-of-mallory",
    "a number": 7,
    "an object": {"value": "access-token-of-mallory"},
    "a tuple": (access_token("mallory"), 9e9, 9e9),
    "an access token without an end": access_token("mallory"),
    "a secret": Secret("access-token-of-mallory"),
    "an exception": ValueError("access-token-of-mallory"),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
async def test_g8_a_value_of_another_kind_is_a_miss(
    tmp_path: Path, poison: object, seen: Seen
) -> None:
    rig = Rig(tmp_path)
    await rig.ask()
    store = rig.check._access_tokens._cache._store._cache
    (key,) = store
    store[key] = poison

    response = await rig.ask()

    assert holder(rig, response) == "alice"
    assert [record["token_source"] for record in rig.records()] == ["exchange", "exchange"]
    assert "mallory" not in rig.audit_file.read_text()
    seen("allow, exchanged anew")


async def test_g8_a_store_that_breaks_is_a_denial_without_its_words(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)

    async def breaks(_key: str) -> None:
        raise ConnectionError("redis://:password@cache.corp.example")

    monkeypatch.setattr(rig.check._access_tokens._cache._store, "get", breaks)

    answer = Answer(await rig.ask())

    assert answer.reason == Reason.INTERNAL
    assert "password" not in f"{answer.response}{rig.audit_file.read_text()}"
    seen(f"deny {answer.reason}")


# ---- G9: at rest


async def test_g9_nothing_of_the_cache_outlives_the_process(prepared: Gateway, seen: Seen) -> None:
    """There is no shared cache in this release, so there is nothing to seal: this says so."""
    async with prepared.serving():
        before = await prepared.call()
    async with prepared.serving():
        after = await prepared.call()

    assert source(prepared, after) == "exchange"
    assert before.authorization != after.authorization
    seen("not at rest")


async def test_g9_no_file_holds_a_token(prepared: Gateway, seen: Seen) -> None:
    async with prepared.serving():
        await prepared.call()
        directory = prepared.audit_file.parent
        files = {file.name for file in directory.rglob("*")}

        written = prepared.audit_file.read_text()

    assert files == {"audit.jsonl", "check.sock"}
    assert not any(secret in written for secret in prepared.secrets())
    seen("not at rest")


@pytest.mark.parametrize(
    "write", [pickle.dumps, copy.deepcopy, json.dumps], ids=["pickle", "copy", "json"]
)
def test_g9_an_access_token_cannot_be_written_down(
    write: Callable[[object], object], seen: Seen
) -> None:
    """Whoever adds a shared cache has to seal it first: no serializer takes a `Secret`."""
    with pytest.raises(TypeError):
        write(access_token("alice"))
    seen("not at rest")
