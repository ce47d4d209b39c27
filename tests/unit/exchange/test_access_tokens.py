"""From the cache, from a running exchange, or by both legs: whose token it is, and what it cost."""

import asyncio
import gc
import random
from dataclasses import dataclass, replace

import pytest

from ext_authz.exchange.access_token import AccessToken, Source
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.outbound import Outbound
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import AuthMethod
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.registrations import client
from tests.doubles.signing_keys import signing_key
from tests.doubles.tokens import claims_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How often each leg was walked."""

    idp: IdentityProvider
    authorization_server: AuthorizationServer

    @property
    def made(self) -> tuple[int, int]:
        return len(self.idp.token.calls), len(self.authorization_server.token.calls)


@pytest.fixture
def legs(idp: IdentityProvider, authorization_server: AuthorizationServer) -> Calls:
    return Calls(idp=idp, authorization_server=authorization_server)


# ---- both legs


async def test_both_legs_give_the_access_token(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    time: MovableTime,
) -> None:
    token = await hub.token_for(alice)

    assert token == AccessToken(
        value=Secret(next(iter(authorization_server.holders))),
        issuer=idp.issuer,
        subject="alice",
        resource="https://crm.corp.example/mcp",
        scope=("tickets.read", "tickets.write"),
        expires_at=time.now + 600,
        id_jag_jti=claims_of(idp.issued[0])["jti"],
        source=Source.EXCHANGE,
        legs=token.legs,
        id_jag_digest=Secret(idp.issued[0]).digest(),
    )
    assert token.value.reveal() not in f"{token!r}"


async def test_every_method_of_client_authentication_carries_both_legs(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUB_SECRET", signing_key("ES256", "hub").private_pem())
    for method in AuthMethod:
        hub = Hub(
            idp.registration(client=client("hub", "HUB_SECRET", method)),
            authorization_server.registration(client=client("hub-at-server", "HUB_SECRET", method)),
            outbound=outbound,
            time=time,
        )

        assert await hub.token_for(hub.user(idp.sign_in()))


# ---- the second try


async def test_a_refused_id_jag_is_replaced_once_by_a_fresh_one(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, legs: Calls
) -> None:
    authorization_server.token.next = [Dial(error="invalid_grant")]

    assert await hub.token_for(alice)

    first, second = (call.form["assertion"] for call in authorization_server.token.calls)
    assert legs.made == (2, 2)
    assert claims_of(first)["jti"] != claims_of(second)["jti"]


async def test_a_fresh_id_jag_that_is_refused_too_is_the_end(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, legs: Calls
) -> None:
    authorization_server.token.dial = Dial(error="invalid_grant")

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.ID_JAG_REFUSED
    assert legs.made == (2, 2)


async def test_the_second_try_may_fail_in_its_own_way(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, legs: Calls
) -> None:
    authorization_server.token.next = [Dial(error="invalid_grant"), Dial(error="access_denied")]

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.USER_NOT_PROVISIONED
    assert legs.made == (2, 2)


async def test_each_try_signs_a_client_assertion_of_its_own(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUB_KEY", signing_key("ES256", "hub").private_pem())
    provider = idp.registration(client=client("hub", "HUB_KEY", AuthMethod.PRIVATE_KEY_JWT))
    hub = Hub(provider, authorization_server.registration(), outbound=outbound, time=time)
    authorization_server.token.next = [Dial(error="invalid_grant")]

    await hub.token_for(hub.user(idp.sign_in()))

    names = {claims_of(call.form["client_assertion"])["jti"] for call in idp.token.calls}
    assert len(names) == 2


@pytest.mark.parametrize(
    "dial",
    [
        Dial(error="invalid_target"),
        Dial(error="invalid_client"),
        Dial(error="invalid_scope"),
        Dial(status=500),
        Dial(status=429),
        Dial(cut=True),
        Dial(body=b"{}"),
    ],
    ids=["target", "client", "scope", "500", "429", "cut", "nothing"],
)
async def test_nothing_else_at_leg_2_is_tried_again(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    legs: Calls,
    dial: Dial,
) -> None:
    """An ID-JAG that may have been received is spent."""
    authorization_server.token.dial = dial

    await denial(hub.token_for(alice))

    assert legs.made == (1, 1)


@pytest.mark.parametrize(
    "dial",
    [Dial(error="invalid_grant"), Dial(error="access_denied"), Dial(status=500), Dial(cut=True)],
    ids=["grant", "denied", "500", "cut"],
)
async def test_nothing_at_leg_1_is_tried_again(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls, dial: Dial
) -> None:
    idp.token.dial = dial

    await denial(hub.token_for(alice))

    assert legs.made == (1, 0)


# ---- the cache


async def test_the_second_call_costs_nothing(hub: Hub, alice: VerifiedUser, legs: Calls) -> None:
    first = await hub.token_for(alice)
    second = await hub.token_for(alice)

    assert second == replace(first, source=Source.CACHE, legs=())
    assert legs.made == (1, 1)


async def test_a_refreshed_user_token_finds_the_sessions_access_token(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    """Providers meter ID-JAGs: some hundred a month for a user."""
    await hub.token_for(alice)
    again = await hub.token_for(hub.user(idp.sign_in(refreshed=True)))

    assert again.source is Source.CACHE
    assert legs.made == (1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "bob"},
        {"session": "session-2"},
        {"session": None},
        {"acr": "phr"},
        {"agent": "claude"},
    ],
    ids=str,
)
async def test_whoever_else_asks_gets_a_token_of_their_own(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls, changes: dict[str, str]
) -> None:
    theirs = hub.user(idp.sign_in(), **changes)

    first, second = await hub.token_for(alice), await hub.token_for(theirs)

    assert second.source is Source.EXCHANGE
    assert first.value != second.value
    assert legs.made == (2, 2)


async def test_two_servers_of_one_authorization_server_have_tokens_of_their_own(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    wiki = hub.server(name="wiki", resource="https://wiki.corp.example/mcp")

    tokens = [await hub.token_for(alice), await hub.token_for(alice, wiki)]

    assert tokens[0].value != tokens[1].value
    assert [call.form["resource"] for call in authorization_server.token.calls] == [
        "https://crm.corp.example/mcp",
        "https://wiki.corp.example/mcp",
    ]


async def test_one_servers_id_jag_and_secret_never_go_to_another(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> None:
    async with AuthorizationServer(idp, time) as other:
        hub = Hub(
            idp.registration(),
            authorization_server.registration(),
            other.registration(),
            outbound=outbound,
            time=time,
        )
        alice = hub.user(idp.sign_in())
        wiki = hub.server(name="wiki", authorization_server=other.registration())

        ours, theirs = await asyncio.gather(hub.token_for(alice), hub.token_for(alice, wiki))

        assert claims_of(other.token.calls[0].form["assertion"])["aud"] == other.issuer
        assert len(other.token.calls) == len(authorization_server.token.calls) == 1
        assert ours.value.reveal() in authorization_server.holders
        assert theirs.value.reveal() in other.holders


@pytest.mark.parametrize(
    ("lifetime", "kept"), [(1, 0.9), (60, 54), (300, 270), (600, 570), (86_400, 3600)]
)
async def test_a_token_is_kept_for_less_than_its_life_and_an_hour_at_most(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    time: MovableTime,
    lifetime: int,
    kept: float,
    idp: IdentityProvider,
) -> None:
    authorization_server.token.dial = Dial(members={"expires_in": lifetime})
    bob = hub.user(idp.sign_in(sub="bob"), subject="bob")
    for user in (alice, bob):
        await hub.token_for(user)
    time.passes(kept - 0.1)
    before = await hub.token_for(alice)
    time.passes(0.2)
    after = await hub.token_for(bob)

    assert (before.source, after.source) == (Source.CACHE, Source.EXCHANGE)


async def test_a_clock_set_forward_makes_a_token_old(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    await hub.token_for(alice)
    time.jumps(600)

    assert (await hub.token_for(alice)).source is Source.EXCHANGE


async def test_a_clock_set_back_makes_no_token_young(
    hub: Hub, alice: VerifiedUser, time: MovableTime
) -> None:
    await hub.token_for(alice)
    time.jumps(-86_400)
    time.passes(600)

    assert (await hub.token_for(alice)).source is Source.EXCHANGE


# ---- failures


async def test_a_failure_is_not_asked_for_again_at_once(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    idp.token.dial = Dial(error="access_denied")

    denials = [await denial(hub.token_for(alice)) for _ in range(20)]

    assert {denied.reason for denied in denials} == {Reason.POLICY_DENIED}
    assert legs.made == (1, 0)


async def test_what_failed_is_tried_again_when_it_is_forgotten(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    idp.token.next = [Dial(error="access_denied")]
    await denial(hub.token_for(alice))
    time.passes(10)

    assert (await hub.token_for(alice)).source is Source.EXCHANGE


async def test_a_provider_that_asks_for_time_is_given_it(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls, time: MovableTime
) -> None:
    idp.token.next = [Dial(status=429, headers={"retry-after": "45"})]
    first = await denial(hub.token_for(alice))
    time.passes(44)
    second = await denial(hub.token_for(alice))
    before = legs.made
    time.passes(1)
    await hub.token_for(alice)

    assert (first.retry_after, second.retry_after) == (45, 45)
    assert (before, legs.made) == ((1, 0), (2, 1))


async def test_one_users_failure_is_nobody_elses(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.token.next = [Dial(error="access_denied")]
    await denial(hub.token_for(alice))

    assert await hub.token_for(hub.user(idp.sign_in(sub="bob"), subject="bob"))


async def test_the_same_refused_user_token_again_is_a_sign_in_loop(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    idp.token.dial = Dial(error="invalid_grant")

    reasons = [(await denial(hub.token_for(alice))).reason for _ in range(3)]

    assert reasons == [Reason.SUBJECT_TOKEN_REFUSED, Reason.SIGN_IN_LOOP, Reason.SIGN_IN_LOOP]
    assert legs.made == (1, 0)


async def test_a_fresh_user_token_ends_the_loop(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.token.next = [Dial(error="invalid_grant")]
    await denial(hub.token_for(alice))

    assert await hub.token_for(hub.user(idp.sign_in(fresh=True)))


async def test_a_success_ends_the_loop_for_the_old_user_token_too(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    """Once what the fresh one brought has been used up; the provider may think otherwise by now."""
    idp.token.next = [Dial(error="invalid_grant")]
    await denial(hub.token_for(alice))
    await hub.token_for(hub.user(idp.sign_in(fresh=True)))
    time.jumps(600)

    assert (await hub.token_for(alice)).source is Source.EXCHANGE


async def test_whoever_joined_with_a_fresh_user_token_is_not_refused_for_the_old_one(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    gate = asyncio.Event()
    idp.token.next = [Dial(error="invalid_grant", gate=gate)]
    old = asyncio.create_task(denial(hub.token_for(alice)))
    await idp.token.called.wait()
    fresh = asyncio.create_task(hub.token_for(hub.user(idp.sign_in(fresh=True))))
    await asyncio.sleep(0)
    gate.set()

    assert (await old).reason is Reason.SUBJECT_TOKEN_REFUSED
    assert (await fresh).subject == "alice"
    assert legs.made == (2, 1)


async def test_whoever_joined_with_the_same_user_token_is_refused_with_it(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    idp.token.dial = Dial(error="invalid_grant")

    denials = await asyncio.gather(*(denial(hub.token_for(alice)) for _ in range(10)))

    assert {denied.reason for denied in denials} == {Reason.SUBJECT_TOKEN_REFUSED}
    assert len({id(denied) for denied in denials}) == 10
    assert legs.made == (1, 0)


# ---- one exchange at a time


async def test_a_hundred_callers_cost_one_exchange(
    hub: Hub, alice: VerifiedUser, legs: Calls
) -> None:
    tokens = await asyncio.gather(*(hub.token_for(alice) for _ in range(100)))

    sources = [token.source for token in tokens]
    assert len({token.value for token in tokens}) == 1
    assert (sources.count(Source.EXCHANGE), sources.count(Source.JOINED)) == (1, 99)
    assert legs.made == (1, 1)


async def test_the_first_caller_who_gives_up_takes_nobody_along(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    gate = asyncio.Event()
    idp.token.dial = Dial(gate=gate)
    first = asyncio.create_task(hub.token_for(alice))
    await idp.token.called.wait()
    others = [asyncio.create_task(hub.token_for(alice)) for _ in range(9)]
    await asyncio.sleep(0)
    first.cancel()
    gate.set()

    tokens = await asyncio.gather(*others)
    assert first.cancelled()
    assert {token.source for token in tokens} == {Source.JOINED}
    assert legs.made == (1, 1)


async def test_an_exchange_that_everybody_gave_up_on_serves_the_next(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, legs: Calls
) -> None:
    gate = asyncio.Event()
    authorization_server.token.dial = Dial(gate=gate)
    callers = [asyncio.create_task(hub.token_for(alice)) for _ in range(3)]
    await authorization_server.token.called.wait()
    for caller in callers:
        caller.cancel()
    gate.set()
    await asyncio.gather(*callers, return_exceptions=True)

    token = await hub.token_for(alice)
    assert token.source in {Source.JOINED, Source.CACHE}
    assert legs.made == (1, 1)


async def test_an_exchange_that_fails_after_everybody_gave_up_disturbs_nobody(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    """No "exception was never retrieved" either: warnings are errors here."""
    gate = asyncio.Event()
    idp.token.dial = Dial(gate=gate, error="access_denied")
    caller = asyncio.create_task(hub.token_for(alice))
    await idp.token.called.wait()
    caller.cancel()
    gate.set()
    exchanges = hub.access_tokens._flight._tasks.values()
    await asyncio.gather(caller, *exchanges, return_exceptions=True)
    gc.collect()

    assert (await denial(hub.token_for(alice))).reason is Reason.POLICY_DENIED


@pytest.mark.parametrize(
    "dial", [Dial(status=500), Dial(error="invalid_client"), Dial(body=b"")], ids=str
)
async def test_a_burst_that_fails_costs_one_call(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls, dial: Dial
) -> None:
    idp.token.dial = dial

    denials = await asyncio.gather(*(denial(hub.token_for(alice)) for _ in range(100)))

    assert len({denied.reason for denied in denials}) == 1
    assert legs.made == (1, 0)


async def test_a_thousand_may_wait_for_an_exchange_and_no_more(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, legs: Calls
) -> None:
    gate = asyncio.Event()
    idp.token.dial = Dial(gate=gate)
    waiting = [asyncio.create_task(hub.token_for(alice)) for _ in range(1_000)]
    await idp.token.called.wait()

    denied = await denial(hub.token_for(alice))
    bob = asyncio.create_task(hub.token_for(hub.user(idp.sign_in(sub="bob"), subject="bob")))
    gate.set()

    assert denied.reason is Reason.EXCHANGE_OVERLOADED
    assert len({token.value for token in await asyncio.gather(*waiting)}) == 1
    assert (await bob).subject == "bob"
    assert legs.made == (2, 2)


async def test_callers_at_once_never_get_one_anothers_token(
    hub: Hub, idp: IdentityProvider, authorization_server: AuthorizationServer, legs: Calls
) -> None:
    """Twenty users at two servers, five calls each, in any order and at any speed."""
    wiki = hub.server(name="wiki", resource="https://wiki.corp.example/mcp")
    names = [f"user-{number}" for number in range(20)]
    users = {name: hub.user(idp.sign_in(sub=name), subject=name) for name in names}
    authorization_server.token.next = [Dial(delay=random.uniform(0, 0.02)) for _ in range(40)]
    wanted = [(name, server) for name in names for server in (hub.server(), wiki)] * 5
    random.shuffle(wanted)

    tokens = await asyncio.gather(*(hub.token_for(users[name], server) for name, server in wanted))

    for (name, server), token in zip(wanted, tokens, strict=True):
        assert (token.subject, token.resource) == (name, server.resource)
        assert authorization_server.holders[token.value.reveal()] == name
    assert legs.made == (40, 40)


# ---- time


@pytest.mark.parametrize("dial", [Dial(delay=5), Dial(dribble=0.01)], ids=["silent", "dribbling"])
@pytest.mark.parametrize("leg", ["leg 1", "leg 2"])
async def test_an_exchange_has_one_deadline_for_both_legs(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
    dial: Dial,
    leg: str,
) -> None:
    hub = Hub(
        idp.registration(),
        authorization_server.registration(),
        outbound=outbound,
        time=time,
        seconds=0.2,
    )
    slow = idp.token if leg == "leg 1" else authorization_server.token
    slow.dial = dial

    denied = await denial(hub.token_for(hub.user(idp.sign_in())))

    assert denied.reason is Reason.DEADLINE_EXCEEDED
    assert len(slow.calls) == 1


async def test_after_a_deadline_the_next_exchange_starts_anew(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> None:
    registrations = idp.registration(), authorization_server.registration()
    hub = Hub(*registrations, outbound=outbound, time=time, seconds=0.2)
    alice = hub.user(idp.sign_in())
    idp.token.next = [Dial(delay=5)]
    await denial(hub.token_for(alice))
    time.passes(2)

    assert await hub.token_for(alice)


async def test_a_defect_is_nobodys_denial_and_stands_in_nobodys_way(
    hub: Hub, alice: VerifiedUser, legs: Calls
) -> None:
    """An unforeseen exception goes to the Check as it is, for each caller, and is not remembered."""
    unknown = replace(hub.server().authorization_server, issuer="https://nobody.example")

    for _ in range(2):
        with pytest.raises(KeyError):
            await hub.token_for(alice, hub.server(authorization_server=unknown))
    assert await hub.token_for(alice)
