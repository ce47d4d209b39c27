"""Tokens that are renewed before they end: for whom, how often, and what becomes of the old one."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from ext_authz.exchange.access_token import AccessToken, Source
from ext_authz.exchange.refresh_ahead import PROVIDER_TROUBLE, UnshownLegs, ending_seconds
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.leg import Leg
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import PROVIDERS_WORDS, Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial

KEPT = 570  # seconds, of the 600 that the authorization server gives
NEARLY = 565  # within the last 28.5 seconds, which every key's window has


@pytest.fixture
async def old(hub: Hub, alice: VerifiedUser, time: MovableTime) -> AccessToken:
    """Alice's token, which is about to end."""
    token = await hub.token_for(alice)
    time.passes(NEARLY)
    return token


# ---- when


async def test_a_token_that_is_used_near_its_end_is_renewed_while_the_old_one_serves(
    hub: Hub,
    alice: VerifiedUser,
    old: AccessToken,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
) -> None:
    gate = asyncio.Event()
    authorization_server.token.dial = Dial(gate=gate)
    authorization_server.token.called.clear()
    during = [await hub.token_for(alice) for _ in range(3)]
    await authorization_server.token.called.wait()
    during.append(await hub.token_for(alice))
    gate.set()
    await hub.settled()
    after = await hub.token_for(alice)

    assert {token.value for token in during} == {old.value}
    assert {token.source for token in (*during, after)} == {Source.CACHE}
    assert after.value != old.value
    assert after.expires_at == old.expires_at + NEARLY
    assert (len(idp.token.calls), len(authorization_server.token.calls)) == (2, 2)


async def test_no_call_ever_waits_for_an_exchange_while_a_token_is_in_use(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    """Two hours of calls every five seconds: the first waits, and nobody after it."""
    sources = []
    for _ in range(1_440):
        sources.append((await hub.token_for(alice)).source)
        await hub.settled()
        time.passes(5)

    assert sources == [Source.EXCHANGE] + [Source.CACHE] * 1_439
    assert len(idp.issued) <= 7_200 / (KEPT - 57) + 1


async def test_nothing_is_minted_for_the_idle(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    await hub.token_for(alice)
    for _ in range(400):
        time.passes(1)
        await hub.token_for(alice)
    for _ in range(7_200):
        time.passes(1)
        await hub.settled()

    assert len(idp.issued) == 1


@pytest.mark.parametrize(("kept", "most"), [(0.9, 0.09), (54, 5.4), (570, 57), (3_600, 60)])
def test_the_end_is_the_last_minute_or_tenth_of_a_life(kept: float, most: float) -> None:
    ends = [ending_seconds(f"{number:064x}", kept) for number in range(1_000)]

    assert all(most / 2 <= end <= most for end in ends)


def test_tokens_that_were_issued_together_are_not_renewed_together() -> None:
    ends = sorted(ending_seconds(f"{number:064x}", 3_600) for number in range(1_000))

    for low in range(30, 60, 3):
        assert 50 <= sum(low <= end < low + 3 for end in ends) <= 150


# ---- what the audit shows of it


async def test_the_first_check_with_the_new_token_shows_its_legs_and_the_next_none(
    hub: Hub, alice: VerifiedUser, old: AccessToken
) -> None:
    before = await hub.token_for(alice)
    await hub.settled()
    first, second = [await hub.token_for(alice) for _ in range(2)]

    assert before.legs == ()
    assert [(leg.number, leg.status) for leg in first.legs] == [(1, 200), (2, 200)]
    assert first.legs[0].jti == first.id_jag_jti
    assert (first.source, second.source) == (Source.CACHE, Source.CACHE)
    assert second == replace(first, legs=())


async def test_the_log_has_the_legs_and_nobodys_name_or_token(
    hub: Hub, alice: VerifiedUser, old: AccessToken, idp: IdentityProvider
) -> None:
    with capture_logs() as lines:
        await hub.token_for(alice)
        await hub.settled()
    new = await hub.token_for(alice)

    assert lines == [
        {
            "room": "exchange",
            "event": "token_renewed",
            "log_level": "info",
            "issuer": idp.issuer,
            "server": "crm",
            "milliseconds": 0.0,
            "legs": [
                {"leg": 1, "status": 200, "error": None, "jti": new.id_jag_jti},
                {"leg": 2, "status": 200, "error": None, "jti": None},
            ],
        }
    ]


def a_token(jti: str) -> AccessToken:
    return AccessToken(
        value=Secret("token"),
        issuer="https://idp.example",
        subject="alice",
        resource="https://crm.example",
        scope=(),
        expires_at=0,
        id_jag_jti=jti,
        source=Source.EXCHANGE,
        legs=(Leg(number=1, milliseconds=1.0),),
    )


def test_legs_are_shown_of_the_token_that_they_brought_and_of_no_other() -> None:
    unshown = UnshownLegs()
    unshown.put("key", a_token("jti-1"))

    assert unshown.take("key", "jti-2") == ()
    assert unshown.take("key", "jti-1") == ()


def test_no_more_legs_are_kept_than_so_many() -> None:
    unshown = UnshownLegs(max_entries=3)
    for number in range(10):
        unshown.put(str(number), a_token(str(number)))

    assert [number for number in range(10) if unshown.take(str(number), str(number))] == [7, 8, 9]


# ---- when somebody says no


@pytest.mark.parametrize(
    ("leg", "dial", "reason"),
    [
        (1, Dial(error="invalid_grant"), Reason.SUBJECT_TOKEN_REFUSED),
        (1, Dial(error="insufficient_user_authentication"), Reason.STEP_UP_REQUIRED),
        (1, Dial(error="access_denied"), Reason.POLICY_DENIED),
        (1, Dial(error="invalid_scope"), Reason.SCOPE_DENIED),
        (1, Dial(error="invalid_client"), Reason.HUB_CLIENT_REFUSED),
        (2, Dial(error="access_denied"), Reason.USER_NOT_PROVISIONED),
        (2, Dial(error="invalid_grant"), Reason.ID_JAG_REFUSED),
        (2, Dial(error="invalid_target"), Reason.RESOURCE_REFUSED),
    ],
    ids=str,
)
async def test_a_refusal_drops_the_old_token_at_once(
    hub: Hub,
    alice: VerifiedUser,
    old: AccessToken,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    leg: int,
    dial: Dial,
    reason: Reason,
) -> None:
    refusing = idp.token if leg == 1 else authorization_server.token
    refusing.dial = dial
    with capture_logs() as lines:
        served = await hub.token_for(alice)
        await hub.settled()
    asked = len(refusing.calls)

    denied = await denial(hub.token_for(alice))

    assert served.value == old.value
    assert denied.reason is reason
    assert len(refusing.calls) == asked
    assert [(line["event"], line["reason"]) for line in lines] == [("token_not_renewed", reason)]
    assert PROVIDERS_WORDS not in str(lines)
    assert denied.legs[-1].number == leg


async def test_a_refused_user_is_told_to_sign_in_before_it_is_called_a_loop(
    hub: Hub, alice: VerifiedUser, old: AccessToken, idp: IdentityProvider
) -> None:
    idp.token.dial = Dial(error="invalid_grant")
    await hub.token_for(alice)
    await hub.settled()

    told = [(await denial(hub.token_for(alice))).reason for _ in range(2)]
    idp.token.dial = Dial()
    fresh = await hub.token_for(hub.user(idp.sign_in(fresh=True)))

    assert told == [Reason.SUBJECT_TOKEN_REFUSED, Reason.SIGN_IN_LOOP]
    assert fresh.source is Source.EXCHANGE


async def test_one_users_refusal_drops_nobody_elses_token(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    bob = hub.user(idp.sign_in(sub="bob"), subject="bob")
    for user in (alice, bob):
        await hub.token_for(user)
    time.passes(NEARLY)
    idp.token.next = [Dial(error="access_denied")]
    await hub.token_for(alice)
    await hub.settled()

    assert (await hub.token_for(bob)).source is Source.CACHE


# ---- when a provider is in trouble


@pytest.mark.parametrize(
    "dial",
    [Dial(status=500), Dial(status=429), Dial(cut=True), Dial(body=b"{}")],
    ids=["500", "429", "cut", "unreadable"],
)
@pytest.mark.parametrize("leg", ["leg 1", "leg 2"])
async def test_trouble_keeps_the_old_token_to_its_end_and_no_longer(
    hub: Hub,
    alice: VerifiedUser,
    old: AccessToken,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    time: MovableTime,
    dial: Dial,
    leg: str,
) -> None:
    broken = idp.token if leg == "leg 1" else authorization_server.token
    broken.dial = dial
    for _ in range(KEPT - NEARLY):
        assert (await hub.token_for(alice)).value == old.value
        await hub.settled()
        time.passes(1)

    assert (await denial(hub.token_for(alice))).reason in PROVIDER_TROUBLE


async def test_trouble_is_tried_again_no_more_often_than_it_is_remembered(
    hub: Hub, alice: VerifiedUser, old: AccessToken, idp: IdentityProvider, time: MovableTime
) -> None:
    idp.token.dial = Dial(status=500)
    asked = len(idp.token.calls)
    for _ in range(40):
        await hub.token_for(alice)
        await hub.settled()
        time.passes(0.1)

    assert len(idp.token.calls) == asked + 2


async def test_a_provider_that_is_back_renews_the_token_after_all(
    hub: Hub, alice: VerifiedUser, old: AccessToken, idp: IdentityProvider, time: MovableTime
) -> None:
    idp.token.next = [Dial(status=500)]
    for _ in range(2):
        await hub.token_for(alice)
        await hub.settled()
        time.passes(2)

    new = await hub.token_for(alice)
    assert (new.source, new.value == old.value) == (Source.CACHE, False)


async def test_an_open_circuit_is_no_news_for_the_log(
    hub: Hub, alice: VerifiedUser, old: AccessToken, idp: IdentityProvider
) -> None:
    idp.token.dial = Dial(status=500)
    for number in range(5):
        await denial(hub.token_for(hub.user(idp.sign_in(), subject=f"user-{number}")))
    with capture_logs() as lines:
        for _ in range(3):
            assert (await hub.token_for(alice)).value == old.value
            await hub.settled()

    assert lines == []
    assert len(idp.token.calls) == 6


# ---- whoever comes when the old one is over


async def test_whoever_comes_when_the_old_token_is_over_waits_for_the_renewal(
    hub: Hub, alice: VerifiedUser, old: AccessToken, idp: IdentityProvider, time: MovableTime
) -> None:
    gate = asyncio.Event()
    idp.token.dial = Dial(gate=gate)
    await hub.token_for(alice)
    time.passes(10)
    late = asyncio.create_task(hub.token_for(alice))
    await asyncio.sleep(0)
    gate.set()
    token = await late

    assert token.source is Source.JOINED
    assert token.value != old.value
    assert len(idp.issued) == 2


async def test_a_defect_drops_the_token_and_is_not_repeated_by_each_check(
    hub: Hub, alice: VerifiedUser, old: AccessToken, time: MovableTime
) -> None:
    hub.access_tokens._id_jags = {}
    with capture_logs() as lines:
        await hub.token_for(alice)
        await hub.settled()
        denied = [await denial(hub.token_for(alice)) for _ in range(3)]

    assert [(each.reason, each.detail) for each in denied] == [(Reason.INTERNAL, "KeyError")] * 3
    assert [(line["event"], line["exception"]) for line in lines] == [
        ("renewal_failed", "KeyError")
    ]
