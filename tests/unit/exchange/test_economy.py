"""What calls cost at the providers: the cheapest exchange is the one that is not made."""

import asyncio
import time as machine

import pytest

from ext_authz.exchange.access_token import Source
from ext_authz.identity.issuer_keys import IssuerKeys
from ext_authz.identity.issuer_metadata import IssuerMetadata, openid_locations
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import Users
from ext_authz.outbound import Outbound
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.tokens import ABSENT


@pytest.fixture
def users(idp: IdentityProvider, outbound: Outbound, time: MovableTime) -> Users:
    """The verification that stands before any exchange."""
    metadata = IssuerMetadata(idp.issuer, openid_locations(idp.issuer), outbound, time.clock)
    keys = IssuerKeys(metadata, None, outbound, time.clock)
    return Users({idp.issuer: idp.registration()}, {idp.issuer: keys}, time.clock)


def calls_of(idp: IdentityProvider, server: AuthorizationServer) -> tuple[int, int]:
    return len(idp.token.calls), len(server.token.calls)


# ---- user tokens that change


@pytest.mark.parametrize("session", ["session-1", ABSENT], ids=["sid", "no sid"])
async def test_five_rotated_id_tokens_cost_one_exchange(
    hub: Hub,
    users: Users,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    time: MovableTime,
    session: object,
) -> None:
    """A client that refreshes its ID token each minute is the same session all the while."""
    tokens, sources = set(), []
    for number in range(5):
        token = idp.sign_in(sid=session, jti=f"id-token-{number}")
        tokens.add(token)
        sources.append((await hub.token_for(await users.verify(Secret(token)))).source)
        time.passes(60)

    assert len(tokens) == 5
    assert sources == [Source.EXCHANGE] + [Source.CACHE] * 4
    assert calls_of(idp, authorization_server) == (1, 1)


async def test_a_working_day_costs_no_more_than_its_tokens_lives(
    hub: Hub, users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    """Eight hours with a call a minute, an ID token an hour: tokens of 600 s are kept for 570 s."""
    token = idp.sign_in()
    for minute in range(8 * 60):
        if minute % 55 == 0:
            token = idp.sign_in(jti=str(minute))
        assert await hub.token_for(await users.verify(Secret(token)))
        await hub.settled()
        time.passes(60)

    assert len(idp.issued) <= 8 * 3600 / 540 + 1


# ---- denials


@pytest.mark.parametrize(
    "dial",
    [
        Dial(error="access_denied"),
        Dial(error="invalid_grant"),
        Dial(error="invalid_client"),
        Dial(status=500),
        Dial(status=429, headers={"retry-after": "30"}),
        Dial(cut=True),
        Dial(body=b"<html>"),
    ],
    ids=["policy", "user token", "our client", "500", "429", "cut", "unreadable"],
)
async def test_ten_denials_cost_one_call(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    dial: Dial,
) -> None:
    idp.token.dial = dial
    for _ in range(10):
        await denial(hub.token_for(alice))

    assert calls_of(idp, authorization_server) == (1, 0)


# ---- many at once


async def test_a_burst_of_two_hundred_callers_costs_one_exchange(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
) -> None:
    tokens = await asyncio.gather(*(hub.token_for(alice) for _ in range(200)))

    assert len({token.value for token in tokens}) == 1
    assert calls_of(idp, authorization_server) == (1, 1)


@pytest.mark.parametrize(
    "dial", [Dial(status=500), Dial(error="invalid_grant"), Dial(error="access_denied")], ids=str
)
async def test_a_failing_burst_of_two_hundred_callers_costs_one_call(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    dial: Dial,
) -> None:
    idp.token.dial = dial

    denials = await asyncio.gather(*(denial(hub.token_for(alice)) for _ in range(200)))

    assert len({denied.reason for denied in denials}) == 1
    assert calls_of(idp, authorization_server) == (1, 0)


async def test_waiters_of_a_failing_exchange_do_not_run_one_after_another(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    """Fifty waiters, and half a second for the failure: 25 s if each of them tried for itself."""
    idp.token.dial = Dial(status=500, delay=0.5)
    began = machine.monotonic()

    denials = await asyncio.gather(*(denial(hub.token_for(alice)) for _ in range(50)))

    assert machine.monotonic() - began < 5
    assert {denied.reason for denied in denials} == {Reason.IDP_UNAVAILABLE}
    assert len(idp.token.calls) == 1


async def test_an_outage_costs_hundreds_of_users_a_handful_of_calls(
    hub: Hub, idp: IdentityProvider, time: MovableTime
) -> None:
    """A minute of it, in which each of them calls every five seconds."""
    idp.token.dial = Dial(status=503)
    users = [hub.user(idp.sign_in(), subject=f"user-{number}") for number in range(300)]
    for _ in range(12):
        for user in users:
            await denial(hub.token_for(user))
        time.passes(5)

    assert len(idp.token.calls) <= 5 + 4
