"""E, the issuers' keys: through outages, floods, rotations and other people's addresses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ext_authz.identity.issuer_keys import COOLDOWN_SECONDS, FRESH_SECONDS, KEEP_SECONDS
from ext_authz.outbound import MAX_ANSWER_BYTES
from ext_authz.reasons import Reason
from ext_authz.settings.settings import Timeouts
from tests.abuse.denied import Seen, check_denial, denied_unproven, exchanges, records_of
from tests.abuse.rig import Rig
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.signing_keys import SigningKey, signing_key, weak_rsa_key
from tests.doubles.tokens import id_token
from tests.pipeline.gateway import Answer, Gateway

pytestmark = pytest.mark.usefixtures("no_authorities", "credentials")

FAULTS: dict[str, Dial] = {
    "an error": Dial(status=500),
    "not found": Dial(status=404),
    "a page": Dial(body=b"<!doctype html><title>Sign in</title>"),
    "nothing": Dial(body=b""),
    "a list": Dial(body=b"[]"),
    "no keys": Dial(members={"keys": []}),
    "nothing usable": Dial(members={"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
    "keys twice": Dial(body=b'{"keys": [], "keys": []}'),
    "too much": Dial(members={"padding": "x" * MAX_ANSWER_BYTES}),
    "a redirect": Dial(status=302, headers={"location": "/elsewhere"}),
    "half an answer": Dial(cut=True),
    "compressed": Dial(headers={"content-encoding": "gzip"}),
    "too slow": Dial(delay=5),
}
every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


@pytest.fixture
async def hurried(prepared: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose one HTTP call may take no longer than a test can wait."""
    prepared.change(timeouts=Timeouts(check=5, exchange=4, call=0.5))
    async with prepared.serving():
        yield prepared


async def warm(gateway: Gateway) -> int:
    """Alice has been served; gives how often the keys were asked for."""
    assert (await gateway.call()).is_allow
    return len(gateway.idp.jwks.calls)


async def asked(gateway: Gateway, times: int) -> None:
    """Once the keys were asked for so many times: whoever still has good ones does not wait for it."""
    async with asyncio.timeout(5):
        while len(gateway.idp.jwks.calls) < times:
            gateway.idp.jwks.called.clear()
            await gateway.idp.jwks.called.wait()


# ---- E1: outages


@every_fault
async def test_e1_the_last_good_keys_serve_through_an_outage(
    hurried: Gateway, fault: Dial, seen: Seen
) -> None:
    fetches = await warm(hurried)
    hurried.idp.jwks.dial = fault
    hurried.time.passes(KEEP_SECONDS - 1)

    assert (await hurried.call()).is_allow

    await asked(hurried, fetches + 1)
    assert (await hurried.call()).is_allow
    seen("allow, by the last good keys")


@every_fault
async def test_e1_the_last_good_keys_are_not_kept_for_ever(
    hurried: Gateway, fault: Dial, seen: Seen
) -> None:
    await warm(hurried)
    hurried.idp.jwks.dial = fault
    hurried.time.passes(KEEP_SECONDS + 1)

    answer = await denied_unproven(hurried, Reason.ISSUER_KEYS_UNAVAILABLE)

    seen(f"deny {answer.reason}")


@every_fault
async def test_e1_where_no_keys_were_ever_had_none_is_made_up(
    prepared: Gateway, fault: Dial, seen: Seen
) -> None:
    prepared.change(timeouts=Timeouts(check=5, exchange=4, call=0.5))
    prepared.idp.jwks.dial = fault
    async with prepared.serving():
        answer = await denied_unproven(prepared, Reason.ISSUER_KEYS_UNAVAILABLE)

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize(
    "fault",
    [
        Dial(status=500),
        Dial(body=b"<html>"),
        Dial(members={"issuer": "https://idp.other.example"}),
        Dial(members={"jwks_uri": None}),
        Dial(members={"jwks_uri": ["https://idp.corp.example/jwks"]}),
    ],
    ids=["an error", "a page", "another issuer", "no jwks_uri", "several"],
)
async def test_e1_metadata_that_cannot_be_used_gives_no_keys(
    prepared: Gateway, fault: Dial, seen: Seen
) -> None:
    prepared.idp.metadata.dial = fault
    async with prepared.serving():
        answer = await denied_unproven(prepared, Reason.ISSUER_KEYS_UNAVAILABLE)

    assert prepared.idp.jwks.calls == []
    seen(f"deny {answer.reason}")


async def test_e1_an_outage_that_ends_is_over(prepared: Gateway, seen: Seen) -> None:
    prepared.idp.jwks.dial = Dial(status=500)
    async with prepared.serving():
        answer = await denied_unproven(prepared, Reason.ISSUER_KEYS_UNAVAILABLE)
        prepared.idp.jwks.dial = Dial()

        assert (await prepared.call()).is_allow

    seen(f"deny {answer.reason}")


# ---- E2: floods

FLOOD = 500


def strangers(gateway: Gateway, number: int) -> list[asyncio.Task[Answer]]:
    """So many calls at once, each with a `kid` that nobody has heard of."""
    return [
        asyncio.create_task(gateway.call(token=gateway.sign_in({"kid": f"stranger-{stranger}"})))
        for stranger in range(number)
    ]


async def test_e2_a_flood_of_unknown_kids_causes_one_fetch_a_cooldown(
    gateway: Gateway, seen: Seen
) -> None:
    fetches = await warm(gateway)
    for cooldown in range(3):
        gateway.time.passes(COOLDOWN_SECONDS)
        answers = await asyncio.gather(*strangers(gateway, FLOOD // 3))

        assert {answer.reason for answer in answers} == {Reason.TOKEN_SIGNATURE_INVALID}
        assert len(gateway.idp.jwks.calls) == fetches + cooldown + 1

    check_denial(gateway, answers[0], Reason.TOKEN_SIGNATURE_INVALID)
    seen("deny token_signature_invalid, one fetch a cooldown")


async def test_e2_a_flood_keeps_no_other_user_waiting(gateway: Gateway, seen: Seen) -> None:
    """While the fetch that the flood caused gets no answer."""
    await warm(gateway)
    gate = asyncio.Event()
    gateway.idp.jwks.dial = Dial(gate=gate)
    gateway.idp.jwks.called.clear()
    gateway.time.passes(COOLDOWN_SECONDS)
    flood = strangers(gateway, FLOOD)
    await gateway.idp.jwks.called.wait()

    answer = await gateway.call()

    assert answer.is_allow
    assert not any(stranger.done() for stranger in flood)
    gate.set()
    reasons = {denial.reason for denial in await asyncio.gather(*flood)}
    assert reasons == {Reason.TOKEN_SIGNATURE_INVALID}
    seen("deny token_signature_invalid; others allowed meanwhile")


# ---- E3: other people's addresses

ELSEWHERE = [
    "http://idp.corp.example/jwks",
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fe80::1]/jwks",
    "https://[::ffff:169.254.169.254]/jwks",
    "https://2852039166/jwks",
    "https://0xa9fea9fe/jwks",
    "https://idp.corp.example@169.254.169.254/jwks",
    "http://10.0.0.1/jwks",
    "file:///etc/passwd",
    "ftp://idp.corp.example/jwks",
    "data:application/json,{}",
    "//idp.corp.example/jwks",
    "/jwks",
    "",
]


@pytest.mark.parametrize("address", ELSEWHERE)
async def test_e3_a_jwks_uri_that_is_not_https_or_leads_inside_is_not_asked(
    prepared: Gateway, address: str, seen: Seen
) -> None:
    """A decision: another https host is fine. Google's, Microsoft's and others' keys stand elsewhere.

    Whoever writes the metadata, over TLS at the issuer's own address, names the keys anyway.
    """
    prepared.idp.metadata.dial = Dial(members={"jwks_uri": address})
    async with prepared.serving():
        answer = await denied_unproven(prepared, Reason.ISSUER_KEYS_UNAVAILABLE)

    assert prepared.idp.jwks.calls == []
    seen(f"deny {answer.reason}")


NEIGHBOURS = [
    "http://127.0.0.1:9901/config_dump",
    "https://127.0.0.1/jwks",
    "http://localhost:9901/config_dump",
    "http://[::1]:9901/",
    "https://[::ffff:127.0.0.1]/",
]


@pytest.mark.parametrize("address", [*ELSEWHERE, *NEIGHBOURS])
async def test_e3_nothing_goes_out_to_such_an_address_or_to_our_own_neighbours(
    tmp_path: Path, address: str, seen: Seen
) -> None:
    """From the rig no road leads there: a request would be a KeyError, and the denial `internal`.

    Envoy's admin interface is such a neighbour. Only an issuer that is on loopback itself, as on a
    developer's machine, may have its keys there.
    """
    rig = Rig(tmp_path)
    rig.idp.metadata.dial = Dial(members={"jwks_uri": address})

    answer = Answer(await rig.ask())

    assert answer.reason == Reason.ISSUER_KEYS_UNAVAILABLE
    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("address", NEIGHBOURS)
async def test_e3_nor_do_our_credentials_go_to_our_neighbours(
    tmp_path: Path, address: str, seen: Seen
) -> None:
    rig = Rig(tmp_path)
    rig.idp.metadata.dial = Dial(members={"token_endpoint": address})

    answer = Answer(await rig.ask())

    assert answer.reason == Reason.IDP_ANSWER_INVALID
    assert rig.idp.token.calls == []
    seen(f"deny {answer.reason}")


# ---- E4: keys that are not usable

BAD_KEYS: dict[str, object] = {
    "no object": "key-1",
    "nothing in it": {},
    "no curve": {"kty": "EC", "kid": "bad", "x": "AA", "y": "AA"},
    "a point off its curve": {"kty": "EC", "crv": "P-256", "kid": "bad", "x": "AA", "y": "AA"},
    "a kid that is no text": {**signing_key("ES256", "bad").jwk(), "kid": 7},
    "an unknown kind": {"kty": "AKP", "alg": "ML-DSA-44", "kid": "bad", "pub": "AA"},
    "a symmetric one": {"kty": "oct", "kid": "bad", "k": "c2VjcmV0"},
}


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
async def test_e4_one_malformed_key_does_not_lose_the_others(
    prepared: Gateway, bad: object, seen: Seen
) -> None:
    prepared.idp.published = [bad, prepared.idp.key.jwk(), bad]
    async with prepared.serving():
        assert (await prepared.call()).is_allow

    seen("allow, by the good key")


def symmetric(key: SigningKey) -> dict[str, object]:
    return {"kty": "oct", "kid": key.key_id, "alg": "HS256", "k": key.jwk()["x"]}


UNFIT: dict[str, tuple[SigningKey, dict[str, object]]] = {
    "for encryption": (signing_key(), {"use": "enc"}),
    "of another algorithm": (signing_key(), {"alg": "ES384"}),
    "of an algorithm for encryption": (signing_key("RS256"), {"alg": "RSA-OAEP"}),
    "weak": (weak_rsa_key(), {}),
    "symmetric": (signing_key(), symmetric(signing_key())),
}


@pytest.mark.parametrize(("key", "published"), UNFIT.values(), ids=UNFIT)
async def test_e4_a_key_that_is_not_for_this_verifies_nothing(
    prepared: Gateway, key: SigningKey, published: dict[str, object], seen: Seen
) -> None:
    """Beside a good one, so that there is a set; the token names the other."""
    prepared.idp.rotate(replace(key, key_id="unfit"))
    good = signing_key("ES256", "good").jwk()
    prepared.idp.published = [good, {**prepared.idp.key.jwk(), **published, "kid": "unfit"}]
    async with prepared.serving():
        answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID)

    seen(f"deny {answer.reason}")


# ---- E5: rotation


async def test_e5_a_new_key_works_with_one_fetch(gateway: Gateway, seen: Seen) -> None:
    fetches = await warm(gateway)
    gateway.idp.rotate(signing_key("ES256", "key-2"))
    gateway.time.passes(COOLDOWN_SECONDS)

    assert (await gateway.call()).is_allow
    assert len(gateway.idp.jwks.calls) == fetches + 1
    seen("allow, by the new key")


async def test_e5_a_removed_key_stops_with_the_next_fetch(gateway: Gateway, seen: Seen) -> None:
    fetches = await warm(gateway)
    old = gateway.idp.key
    gateway.idp.rotate(signing_key("ES256", "key-2"), drop=True)
    gateway.time.passes(FRESH_SECONDS + 1)
    assert (await gateway.call()).is_allow  # which fetches
    assert len(gateway.idp.jwks.calls) == fetches + 1

    token = id_token(old, gateway.idp.issuer, gateway.time.now)
    answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    seen(f"deny {answer.reason}")


async def test_e5_a_removed_key_stops_at_the_hard_age_though_no_fetch_succeeds(
    gateway: Gateway, seen: Seen
) -> None:
    await warm(gateway)
    gateway.idp.jwks.dial = Dial(status=503)
    gateway.time.passes(KEEP_SECONDS + 1)

    answer = await denied_unproven(gateway, Reason.ISSUER_KEYS_UNAVAILABLE)

    seen(f"deny {answer.reason}")


async def test_e5_a_key_of_the_same_kid_replaces_the_old_one(gateway: Gateway, seen: Seen) -> None:
    await warm(gateway)
    old = gateway.idp.key
    new = replace(old, private=ec.generate_private_key(ec.SECP256R1()))
    gateway.idp.rotate(new, drop=True)
    gateway.time.passes(FRESH_SECONDS + 1)
    async with asyncio.timeout(5):
        while not (await gateway.call()).is_allow:  # while the new keys are fetched, the old serve
            gateway.time.passes(COOLDOWN_SECONDS)

    token = id_token(old, gateway.idp.issuer, gateway.time.now)
    answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    seen(f"deny {answer.reason}")


# ---- E6, E7: several issuers


@asynccontextmanager
async def second_issuer(gateway: Gateway) -> AsyncIterator[IdentityProvider]:
    """Another one in the settings, with a key of its own under the same name."""
    key = replace(signing_key("ES256", "theirs"), key_id=gateway.idp.key.key_id)
    async with IdentityProvider(gateway.time, key=key) as other:
        providers = {one.issuer: one for one in (gateway.idp.registration(), other.registration())}
        gateway.change(identity_providers=MappingProxyType(providers))
        yield other


async def test_e6_a_key_verifies_tokens_of_its_own_issuer_only(
    prepared: Gateway, seen: Seen
) -> None:
    async with second_issuer(prepared) as other, prepared.serving():
        for crossed in (
            other.sign_in(iss=prepared.idp.issuer),
            prepared.idp.sign_in(iss=other.issuer),
        ):
            answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID, token=crossed)

    seen(f"deny {answer.reason}")


async def test_e6_the_same_subject_at_two_issuers_is_two_users(
    prepared: Gateway, seen: Seen
) -> None:
    """The second issuer's exchange is asked, though the first one's alice has a token already."""
    async with second_issuer(prepared) as other, prepared.serving():
        assert (await prepared.call()).is_allow
        answer = await prepared.call(token=other.sign_in())

    assert len(other.token.calls) == 2
    check_denial(prepared, answer, Reason.ID_JAG_REFUSED)  # the AS trusts the first issuer only
    seen(f"deny {answer.reason}")


async def test_e7_an_issuer_that_the_settings_no_longer_name_is_refused_at_once(
    prepared: Gateway, seen: Seen
) -> None:
    async with second_issuer(prepared) as other:
        token = prepared.sign_in()
        async with prepared.serving():
            assert (await prepared.call(token=token)).is_allow
        prepared.change(identity_providers={other.issuer: other.registration()})
        async with prepared.serving():
            answer = await denied_unproven(prepared, Reason.TOKEN_ISSUER_UNKNOWN, token=token)

    seen(f"deny {answer.reason}")


async def test_e7_the_tokens_of_an_issuer_that_was_away_are_gone(
    prepared: Gateway, seen: Seen
) -> None:
    async with second_issuer(prepared) as other:
        both = prepared.settings.identity_providers
        async with prepared.serving():
            assert (await prepared.call()).is_allow
        prepared.change(identity_providers={other.issuer: other.registration()})
        async with prepared.serving():
            answer = await denied_unproven(prepared, Reason.TOKEN_ISSUER_UNKNOWN)
        prepared.change(identity_providers=both)
        async with prepared.serving():
            back = await prepared.call()

    assert records_of(prepared, back)[0]["token_source"] == "exchange"
    assert exchanges(prepared) == (2, 2)
    seen(f"deny {answer.reason}")
