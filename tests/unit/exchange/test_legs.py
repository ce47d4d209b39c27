"""What is noted of each request of an exchange: the good, the refused, and those that were cut off."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from ext_authz.exchange.access_token import Source
from ext_authz.exchange.legs import Legs
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.leg import Leg
from ext_authz.outbound import Outbound
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import PROVIDERS_WORDS, Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.tokens import claims_of

BOTH = ("tickets.read", "tickets.write")


def told(legs: tuple[Leg, ...]) -> list[tuple[int, int | None, str | None]]:
    """Number, status and error of each."""
    return [(leg.number, leg.status, leg.error) for leg in legs]


async def test_an_exchange_notes_both_legs_with_what_they_granted(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    token = await hub.token_for(alice)

    id_jag = idp.issued[0]
    assert token.legs == (
        Leg(
            number=1,
            status=200,
            milliseconds=0,
            scope=BOTH,
            jti=claims_of(id_jag)["jti"],
            expires_at=time.now + 300,
            id_jag_digest=Secret(id_jag).digest(),
        ),
        Leg(number=2, status=200, milliseconds=0, scope=BOTH, expires_at=time.now + 600),
    )
    assert token.id_jag_digest == Secret(id_jag).digest()


async def test_the_scope_that_each_party_granted_is_noted_with_its_leg(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    authorization_server.token.dial = Dial(members={"scope": "tickets.read"})

    token = await hub.token_for(alice)

    assert [leg.scope for leg in token.legs] == [BOTH, ("tickets.read",)]


async def test_the_id_jag_is_not_kept_with_the_access_token(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    token = await hub.token_for(alice)

    assert idp.issued[0] not in repr(token)
    assert repr(token.id_jag_digest) not in repr(token)


async def test_a_token_from_the_cache_cost_no_leg_and_still_knows_its_id_jag(
    hub: Hub, alice: VerifiedUser
) -> None:
    first = await hub.token_for(alice)
    second = await hub.token_for(alice)

    assert second == replace(first, source=Source.CACHE, legs=())
    assert second.id_jag_digest == first.id_jag_digest


async def test_whoever_joined_shares_the_legs_of_the_one_who_ran(
    hub: Hub, alice: VerifiedUser
) -> None:
    ran, joined = await asyncio.gather(hub.token_for(alice), hub.token_for(alice))

    assert (ran.source, joined.source) == (Source.EXCHANGE, Source.JOINED)
    assert ran.legs == joined.legs
    assert len(ran.legs) == 2


# ---- failures


async def test_a_refusal_is_noted_by_its_code_and_never_in_words(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.token.dial = Dial(error="access_denied")

    denied = await denial(hub.token_for(alice))

    assert told(denied.legs) == [(1, 400, "access_denied")]
    assert PROVIDERS_WORDS not in repr(denied.legs)


async def test_a_code_outside_its_alphabet_is_none(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.token.dial = Dial(error="Größe <b>")

    denied = await denial(hub.token_for(alice))

    assert told(denied.legs) == [(1, 400, None)]


async def test_a_refused_id_jag_and_the_retry_are_noted_one_after_the_other(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    authorization_server.token.next = [Dial(error="invalid_grant")]

    token = await hub.token_for(alice)

    assert told(token.legs) == [
        (1, 200, None),
        (2, 400, "invalid_grant"),
        (1, 200, None),
        (2, 200, None),
    ]
    jtis = [claims_of(id_jag)["jti"] for id_jag in idp.issued]
    assert [leg.jti for leg in token.legs] == [jtis[0], None, jtis[1], None]


async def test_a_retry_in_vain_is_noted_too(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    authorization_server.token.dial = Dial(error="invalid_grant")

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.ID_JAG_REFUSED
    assert told(denied.legs) == [(1, 200, None), (2, 400, "invalid_grant")] * 2


@pytest.mark.parametrize(
    ("dial", "status"), [(Dial(status=503), 503), (Dial(status=429), 429), (Dial(cut=True), None)]
)
async def test_an_outage_is_noted_with_the_status_that_came(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, dial: Dial, status: int | None
) -> None:
    idp.token.dial = dial

    denied = await denial(hub.token_for(alice))

    assert told(denied.legs) == [(1, status, None)]


async def test_nothing_that_was_not_accepted_counts_as_granted(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.id_jag = {"aud": "https://elsewhere.example"}

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.ID_JAG_INVALID
    assert denied.legs == (Leg(number=1, status=200, milliseconds=0),)


async def test_a_leg_that_the_deadline_cut_off_is_noted_as_one_without_an_answer(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> None:
    registrations = idp.registration(), authorization_server.registration()
    hub = Hub(*registrations, outbound=outbound, time=time, seconds=0.5)
    authorization_server.token.dial = Dial(delay=5)

    denied = await denial(hub.token_for(hub.user(idp.sign_in())))

    assert denied.reason is Reason.DEADLINE_EXCEEDED
    assert told(denied.legs) == [(1, 200, None), (2, None, None)]


async def test_a_remembered_failure_made_no_leg(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.token.dial = Dial(error="access_denied")
    await denial(hub.token_for(alice))

    remembered = await denial(hub.token_for(alice))

    assert remembered.reason is Reason.POLICY_DENIED
    assert remembered.legs == ()


async def test_whoever_joined_a_run_that_failed_shares_its_legs(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.token.dial = Dial(error="access_denied")

    denials = await asyncio.gather(*(denial(hub.token_for(alice)) for _ in range(3)))

    assert [told(denied.legs) for denied in denials] == [[(1, 400, "access_denied")]] * 3
    assert len({id(denied) for denied in denials}) == 3


# ---- time


def test_a_leg_lasts_from_the_beginning_of_its_block_to_the_end(time: MovableTime) -> None:
    legs = Legs(time.clock)

    with legs.leg(1):
        time.passes(0.25)
    with contextlib.suppress(Denied), legs.leg(2) as notes:
        notes.lifetime = 60
        time.passes(1.5)
        raise Denied(Reason.AS_UNAVAILABLE)

    assert [leg.milliseconds for leg in legs.made] == [250, 1500]
    assert [leg.expires_at for leg in legs.made] == [None, time.now + 60]
