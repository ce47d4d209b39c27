"""A provider that is down: what it is asked meanwhile, who is served all the same, and how it ends."""

import asyncio
from dataclasses import replace

import pytest

from ext_authz.exchange.access_token import Source
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.outbound import Outbound
from ext_authz.reasons import Reason
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial, Endpoint
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial

DOWN = Dial(status=503)


def somebody(hub: Hub, idp: IdentityProvider, number: int) -> VerifiedUser:
    name = f"user-{number}"
    return hub.user(idp.sign_in(sub=name), subject=name)


async def fail_for_five(hub: Hub, idp: IdentityProvider) -> None:
    for number in range(5):
        await denial(hub.token_for(somebody(hub, idp, number)))


@pytest.fixture(params=["leg 1", "leg 2"])
def leg(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def broken(leg: str, idp: IdentityProvider, authorization_server: AuthorizationServer) -> Endpoint:
    return idp.token if leg == "leg 1" else authorization_server.token


# ---- while it is down


async def test_whoever_comes_after_five_failures_is_denied_without_a_call(
    hub: Hub, idp: IdentityProvider, broken: Endpoint, leg: str
) -> None:
    broken.dial = DOWN
    await fail_for_five(hub, idp)

    denials = [await denial(hub.token_for(somebody(hub, idp, number))) for number in range(5, 30)]

    unavailable = Reason.IDP_UNAVAILABLE if leg == "leg 1" else Reason.AS_UNAVAILABLE
    assert {(denied.reason, denied.retry_after) for denied in denials} == {(unavailable, 5)}
    assert {denied.legs for denied in denials} == {()}
    assert len(broken.calls) == 5


@pytest.mark.parametrize(
    "dial", [Dial(status=500), Dial(cut=True), Dial(status=302)], ids=["500", "cut", "redirect"]
)
async def test_whatever_is_no_usable_answer_counts(
    hub: Hub, idp: IdentityProvider, broken: Endpoint, dial: Dial
) -> None:
    broken.dial = replace(dial, headers={"location": "/"})
    await fail_for_five(hub, idp)
    await denial(hub.token_for(somebody(hub, idp, 5)))

    assert len(broken.calls) == 5


@pytest.mark.parametrize(
    "dial",
    [Dial(error="access_denied"), Dial(error="invalid_client", status=401), Dial(body=b"{}")],
    ids=["refused", "client refused", "unreadable"],
)
async def test_an_endpoint_that_says_no_is_not_down(
    hub: Hub, idp: IdentityProvider, broken: Endpoint, dial: Dial
) -> None:
    broken.dial = dial
    await fail_for_five(hub, idp)
    await denial(hub.token_for(somebody(hub, idp, 5)))

    assert len(broken.calls) == 6


async def test_one_users_429_holds_for_nobody_else(
    hub: Hub, idp: IdentityProvider, broken: Endpoint
) -> None:
    """It may be that user's own quota, and no answer says whose limit it was."""
    broken.next = [Dial(status=429, headers={"retry-after": "600"})] * 9
    for number in range(9):
        await denial(hub.token_for(somebody(hub, idp, number)))

    assert await hub.token_for(somebody(hub, idp, 9))


async def test_no_id_jag_is_minted_for_an_authorization_server_that_is_down(
    hub: Hub, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    authorization_server.token.dial = DOWN
    await fail_for_five(hub, idp)
    await asyncio.gather(
        *(denial(hub.token_for(somebody(hub, idp, number))) for number in range(5, 50))
    )

    assert len(idp.issued) == 5


async def test_one_authorization_servers_outage_is_no_other_servers(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> None:
    async with AuthorizationServer(idp, time) as other:
        registrations = authorization_server.registration(), other.registration()
        hub = Hub(idp.registration(), *registrations, outbound=outbound, time=time)
        authorization_server.token.dial = DOWN
        await fail_for_five(hub, idp)
        wiki = hub.server(name="wiki", authorization_server=other.registration())

        assert await hub.token_for(somebody(hub, idp, 1), wiki)


async def test_an_issuer_whose_metadata_cannot_be_had_is_down(
    hub: Hub, idp: IdentityProvider
) -> None:
    idp.metadata.dial = DOWN
    await fail_for_five(hub, idp)
    denied = await denial(hub.token_for(somebody(hub, idp, 5)))

    assert (denied.reason, denied.retry_after) == (Reason.IDP_UNAVAILABLE, 5)
    assert len(idp.metadata.calls) == 5


async def test_a_credential_of_ours_that_cannot_be_read_is_no_outage(
    hub: Hub, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.delenv("HUB_SECRET")
        await fail_for_five(hub, idp)

    assert await hub.token_for(somebody(hub, idp, 5))


async def test_an_endpoint_that_lets_exchanges_run_into_their_deadline_is_down(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> None:
    registrations = idp.registration(), authorization_server.registration()
    hub = Hub(*registrations, outbound=outbound, time=time, seconds=0.05)
    idp.token.dial = Dial(gate=asyncio.Event())
    for number in range(5):
        idp.token.called.clear()
        call = asyncio.create_task(denial(hub.token_for(somebody(hub, idp, number))))
        await idp.token.called.wait()
        time.passes(4)
        assert (await call).reason is Reason.DEADLINE_EXCEEDED

    assert (await denial(hub.token_for(somebody(hub, idp, 5)))).reason is Reason.IDP_UNAVAILABLE
    assert len(idp.token.calls) == 5


# ---- who is served all the same


async def test_a_cached_token_survives_an_outage_until_its_end_and_no_longer(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, broken: Endpoint, time: MovableTime
) -> None:
    first = await hub.token_for(alice)
    broken.dial = DOWN
    for _ in range(113):
        time.passes(5)
        again = await hub.token_for(alice)
        assert (again.source, again.value) == (Source.CACHE, first.value)
    time.passes(5)

    denied = await denial(hub.token_for(alice))
    assert time.wall == first.expires_at - 30
    assert denied.reason in {Reason.IDP_UNAVAILABLE, Reason.AS_UNAVAILABLE}


# ---- when it is back


async def test_one_probe_goes_ahead_of_all_others(
    hub: Hub,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    broken: Endpoint,
    time: MovableTime,
) -> None:
    broken.dial = DOWN
    await fail_for_five(hub, idp)
    minted, asked = len(idp.issued), len(broken.calls)
    time.passes(5)
    gate = asyncio.Event()
    broken.dial = Dial(gate=gate)
    broken.called.clear()
    calls = [asyncio.create_task(hub.token_for(somebody(hub, idp, n))) for n in range(10, 60)]
    await broken.called.wait()
    gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert len(broken.calls) == asked + 1
    assert len(idp.issued) == minted + 1
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1


async def test_as_soon_as_the_probe_is_answered_everybody_is_served(
    hub: Hub, idp: IdentityProvider, broken: Endpoint, time: MovableTime
) -> None:
    """Who was denied while nobody was asked has no failure remembered."""
    broken.dial = DOWN
    await fail_for_five(hub, idp)
    for number in range(5, 20):
        await denial(hub.token_for(somebody(hub, idp, number)))
    broken.dial = Dial()
    time.passes(5)
    assert await hub.token_for(somebody(hub, idp, 20))

    for number in range(20):
        assert await hub.token_for(somebody(hub, idp, number))
