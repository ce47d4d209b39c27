"""An issuer's keys: through its outages, its rotations, its mistakes and other people's floods."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_authz.identity.issuer_keys import (
    COOLDOWN_SECONDS,
    FRESH_SECONDS,
    KEEP_SECONDS,
    MAX_KEYS,
    IssuerKeys,
    KeysUnavailable,
    _usable_keys,
)
from ext_authz.outbound import MAX_ANSWER_BYTES, Outbound
from ext_authz.settings.settings import IdentityProvider as Registration
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.signing_keys import signing_key, weak_rsa_key

KeysOf = Callable[[Registration], IssuerKeys]

FAULTS: dict[str, Dial] = {
    "an error": Dial(status=500),
    "not found": Dial(status=404),
    "no content": Dial(status=204, body=b""),
    "a page": Dial(body=b"<!doctype html><title>Sign in</title>"),
    "nothing": Dial(body=b""),
    "a list": Dial(body=b"[]"),
    "no keys": Dial(body=b"{}"),
    "an empty set": Dial(members={"keys": []}),
    "a set that is none": Dial(members={"keys": {"kid": "key-1"}}),
    "a set of nothing usable": Dial(members={"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
    "duplicate keys": Dial(body=b'{"keys": [], "keys": []}'),
    "too much": Dial(members={"padding": "x" * MAX_ANSWER_BYTES}),
    "a redirect": Dial(status=302, headers={"location": "/elsewhere"}),
    "half an answer": Dial(cut=True),
    "compressed": Dial(headers={"content-encoding": "gzip"}),
}
every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


async def settled(keys: IssuerKeys) -> None:
    """Until no fetch is going on that nobody waited for."""
    await asyncio.gather(*keys._flight._tasks.values())


async def test_keys_are_fetched_once_and_serve_everybody(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    for _ in range(3):
        assert await keys.find("key-1")
        time.passes(FRESH_SECONDS / 3)

    assert len(idp.jwks.calls) == 1


async def test_a_hundred_who_ask_at_once_cause_one_fetch(
    keys: IssuerKeys, idp: IdentityProvider
) -> None:
    found = await asyncio.gather(*(keys.find("key-1") for _ in range(100)))

    assert all(found)
    assert len(idp.jwks.calls) == 1


async def test_keys_that_are_no_longer_fresh_are_fetched_anew_while_nobody_waits(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    gate = asyncio.Event()
    idp.jwks.dial = Dial(gate=gate)
    time.passes(FRESH_SECONDS + 1)

    assert await keys.find("key-1")
    assert await keys.find("key-1")
    gate.set()
    await settled(keys)
    assert len(idp.jwks.calls) == 2


async def test_a_wall_clock_that_jumps_makes_no_key_older(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    time.jumps(KEEP_SECONDS * 2)

    assert await keys.find("key-1")
    assert len(idp.jwks.calls) == 1


async def test_a_jwks_uri_of_the_settings_needs_no_metadata(
    keys_of: KeysOf, idp: IdentityProvider
) -> None:
    keys = keys_of(idp.registration(jwks_uri=f"{idp.issuer}/jwks"))

    assert await keys.find("key-1")
    assert idp.server.paths == ["/jwks"]


# ---- E1: outages


@every_fault
async def test_where_no_keys_were_ever_had_there_are_none(
    keys: IssuerKeys, idp: IdentityProvider, fault: Dial
) -> None:
    idp.jwks.dial = fault

    with pytest.raises(KeysUnavailable):
        await keys.find("key-1")


@every_fault
async def test_a_failed_fetch_keeps_the_last_good_keys(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime, fault: Dial
) -> None:
    await keys.find("key-1")
    idp.jwks.dial = fault
    time.passes(KEEP_SECONDS)
    await keys.find("key-1")
    await settled(keys)

    assert len(idp.jwks.calls) == 2
    assert await keys.find("key-1")


@every_fault
async def test_the_last_good_keys_are_not_kept_for_ever(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime, fault: Dial
) -> None:
    await keys.find("key-1")
    idp.jwks.dial = fault
    time.passes(KEEP_SECONDS + 1)

    with pytest.raises(KeysUnavailable):
        await keys.find("key-1")


@every_fault
async def test_after_an_outage_the_first_good_answer_counts(
    keys: IssuerKeys, idp: IdentityProvider, fault: Dial
) -> None:
    idp.jwks.next = [fault]
    with pytest.raises(KeysUnavailable):
        await keys.find("key-1")

    assert await keys.find("key-1")


@pytest.mark.parametrize("dial", [Dial(delay=5), Dial(dribble=0.05)], ids=["slow", "dribbling"])
async def test_an_answer_that_takes_too_long_is_none(
    idp: IdentityProvider, time: MovableTime, keys_of: KeysOf, outbound: Outbound, dial: Dial
) -> None:
    outbound._seconds = 0.2
    idp.jwks.dial = dial

    with pytest.raises(KeysUnavailable):
        await keys_of(idp.registration()).find("key-1")


async def test_during_an_outage_the_old_keys_are_given_without_asking_each_time(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    idp.jwks.dial = Dial(status=500)
    time.passes(FRESH_SECONDS + 1)

    for _ in range(10):
        assert await keys.find("key-1")
        await settled(keys)
    time.passes(COOLDOWN_SECONDS)
    for _ in range(10):
        assert await keys.find("key-1")
        await settled(keys)

    assert len(idp.jwks.calls) == 1 + 2


METADATA_FAULTS = {
    "an error": Dial(status=500),
    "another issuer": Dial(members={"issuer": "https://evil.example"}),
    "no jwks_uri": Dial(members={"jwks_uri": None}),
    "plain http elsewhere": Dial(members={"jwks_uri": "http://idp.corp.example/jwks"}),
    "the cloud's metadata": Dial(members={"jwks_uri": "http://169.254.169.254/latest/"}),
    "the cloud's metadata by https": Dial(members={"jwks_uri": "https://169.254.169.254/"}),
    "a file": Dial(members={"jwks_uri": "file:///etc/passwd"}),
    "no URL": Dial(members={"jwks_uri": "http://[::1"}),
}


@pytest.mark.parametrize("fault", METADATA_FAULTS.values(), ids=METADATA_FAULTS)
async def test_metadata_that_leads_nowhere_good_leads_to_no_keys(
    keys: IssuerKeys, idp: IdentityProvider, fault: Dial
) -> None:
    idp.metadata.dial = fault

    with pytest.raises(KeysUnavailable):
        await keys.find("key-1")
    assert idp.jwks.calls == []


async def test_a_fault_of_the_metadata_keeps_the_last_good_keys_too(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    idp.metadata.dial = Dial(members={"issuer": "https://evil.example"})
    time.passes(KEEP_SECONDS)
    await keys.find("key-1")
    await settled(keys)

    assert await keys.find("key-1")
    assert len(idp.metadata.calls) == 2


async def test_whoever_gives_up_leaves_the_fetch_to_the_others(
    keys: IssuerKeys, idp: IdentityProvider
) -> None:
    gate = asyncio.Event()
    idp.jwks.dial = Dial(gate=gate)
    first = asyncio.create_task(keys.find("key-1"))
    await idp.jwks.called.wait()
    second = asyncio.create_task(keys.find("key-1"))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()

    assert await second
    assert first.cancelled()
    assert len(idp.jwks.calls) == 1


# ---- E2: floods


async def test_a_flood_of_unknown_key_ids_causes_one_fetch_in_a_cooldown(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    time.passes(COOLDOWN_SECONDS)

    for number in range(50):
        assert await keys.find(f"unknown-{number}") is None
    await asyncio.gather(*(keys.find(f"more-{number}") for number in range(50)))

    assert len(idp.jwks.calls) == 2


async def test_the_flood_goes_on_and_so_does_the_cooldown(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    for second in range(10 * COOLDOWN_SECONDS):
        await keys.find(f"unknown-{second}")
        time.passes(1)

    assert len(idp.jwks.calls) == 10


async def test_others_are_served_while_the_flood_is_fetched_for(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    time.passes(COOLDOWN_SECONDS)
    gate = asyncio.Event()
    idp.jwks.dial = Dial(gate=gate)
    flood = asyncio.create_task(keys.find("unknown"))
    await asyncio.sleep(0)

    assert await keys.find("key-1")
    assert not flood.done()
    gate.set()
    assert await flood is None


# ---- E4: mistakes

GOOD = signing_key().jwk()
BAD_KEYS: dict[str, object] = {
    "symmetric": {"kty": "oct", "kid": "bad", "k": "c2VjcmV0", "alg": "HS256"},
    "symmetric posing as elliptic": {**GOOD, "kid": "bad", "kty": "oct"},
    "for encryption": {**GOOD, "kid": "bad", "use": "enc"},
    "for an odd use": {**GOOD, "kid": "bad", "use": ["sig"]},
    "weak RSA": weak_rsa_key().jwk(kid="bad"),
    "of an unknown kind": {"kty": "AKP", "kid": "bad"},
    "of an unhashable kind": {"kty": ["EC"], "kid": "bad"},
    "of an unhashable algorithm": {**GOOD, "kid": "bad", "alg": ["ES256"]},
    "of an unknown algorithm": {**GOOD, "kid": "bad", "alg": "ES256X"},
    "of another kind's algorithm": {**GOOD, "kid": "bad", "alg": "RS256"},
    "for HMAC": {**GOOD, "kid": "bad", "alg": "HS256"},
    "without a kind": {name: GOOD[name] for name in ("crv", "x", "y")} | {"kid": "bad"},
    "without a point": {"kty": "EC", "kid": "bad", "crv": "P-256"},
    "with half a point": {**GOOD, "kid": "bad", "y": ""},
    "off the curve": {**GOOD, "kid": "bad", "y": GOOD["x"]},
    "on another curve": {**GOOD, "kid": "bad", "crv": "P-384"},
    "on no curve": {**GOOD, "kid": "bad", "crv": ["P-256"]},
    "with a number for a text": {**GOOD, "kid": "bad", "x": 7},
    "with a text that is no base64": {**GOOD, "kid": "bad", "x": "é!"},
    "RSA without a modulus": {"kty": "RSA", "kid": "bad", "e": "AQAB"},
    "RSA of nothing": {"kty": "RSA", "kid": "bad", "n": "", "e": ""},
    "Edwards of the wrong length": {"kty": "OKP", "kid": "bad", "crv": "Ed25519", "x": "AA"},
    "for key agreement": {"kty": "OKP", "kid": "bad", "crv": "X25519", "x": "A" * 43},
    "a text": "bad",
    "nothing": None,
    "a number": 7,
    "a list": [GOOD],
}


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
async def test_a_key_that_cannot_be_used_does_not_lose_the_others(
    keys: IssuerKeys, idp: IdentityProvider, bad: object
) -> None:
    idp.published = [bad, idp.key.jwk()]

    assert await keys.find("key-1")
    assert await keys.find("bad") is None


@pytest.mark.parametrize("key_id", [None, 1, ["key-2"], {}], ids=str)
async def test_a_key_without_a_proper_name_is_not_found(
    keys: IssuerKeys, idp: IdentityProvider, key_id: object
) -> None:
    idp.published = [signing_key("ES256", "key-2").jwk(kid=key_id), idp.key.jwk()]

    assert await keys.find("key-1")
    assert await keys.find("key-2") is None


async def test_a_nameless_key_that_stands_alone_counts_where_no_name_is_asked(
    keys: IssuerKeys, idp: IdentityProvider
) -> None:
    jwk = idp.key.jwk()
    del jwk["kid"]
    idp.published = [jwk]

    assert await keys.find(None)
    assert await keys.find("key-1") is None


async def test_a_key_needs_neither_use_nor_alg(keys: IssuerKeys, idp: IdentityProvider) -> None:
    jwk = idp.key.jwk()
    del jwk["use"], jwk["alg"]
    idp.published = [jwk]

    key = await keys.find("key-1")

    assert key is not None
    assert key.algorithm_name == "ES256"


async def test_of_two_keys_with_one_name_the_first_counts(
    keys: IssuerKeys, idp: IdentityProvider
) -> None:
    idp.published = [idp.key.jwk(), signing_key("RS256").jwk()]

    key = await keys.find("key-1")

    assert key is not None
    assert key.algorithm_name == "ES256"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_a_private_key_that_was_published_is_read_as_a_public_one(
    keys: IssuerKeys, idp: IdentityProvider, algorithm: str
) -> None:
    private = signing_key(algorithm, "leaked")
    idp.published = [private.jwk(d="c2VjcmV0")]

    key = await keys.find("leaked")

    assert key is not None
    assert key.key == private.private.public_key()


async def test_only_so_many_keys_are_read(keys: IssuerKeys, idp: IdentityProvider) -> None:
    jwk = idp.key.jwk()
    idp.published = [{**jwk, "kid": f"key-{number}"} for number in range(MAX_KEYS + 1)]

    assert await keys.find(f"key-{MAX_KEYS - 1}")
    assert await keys.find(f"key-{MAX_KEYS}") is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["EC", "RSA", "OKP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
members = ["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e", "d", "k", "p", "q", "oth"]
real_keys = st.sampled_from([signing_key(name).jwk() for name in ("ES256", "RS256", "EdDSA")])


@given(real_keys, st.dictionaries(st.sampled_from(members), anything, max_size=4))
@settings(deadline=None)
def test_no_key_whatever_it_says_loses_the_others(
    real: dict[str, object], changes: Mapping[str, object]
) -> None:
    spoilt = {**real, "kid": "spoilt", **changes}

    keys = _usable_keys([spoilt, GOOD])

    assert "key-1" in keys
    assert all(key.algorithm_name != "HS256" for key in keys.values())
    assert json.dumps(spoilt)  # it could have come over the wire


# ---- E5: rotation


async def test_a_new_key_is_found_at_the_first_token_that_names_it(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    idp.rotate(signing_key("ES256", "key-2"))
    time.passes(COOLDOWN_SECONDS)

    assert await keys.find("key-2")
    assert await keys.find("key-1")
    assert len(idp.jwks.calls) == 2


async def test_a_new_key_within_the_cooldown_waits_for_its_end(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    idp.rotate(signing_key("ES256", "key-2"))
    time.passes(COOLDOWN_SECONDS - 1)
    too_early = await keys.find("key-2")
    time.passes(1)

    assert too_early is None
    assert await keys.find("key-2")


async def test_a_key_that_was_withdrawn_stops_soon_after_the_set_is_no_longer_fresh(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    idp.rotate(signing_key("ES256", "key-2"), drop=True)
    time.passes(FRESH_SECONDS + 1)
    await keys.find("key-1")
    await settled(keys)

    assert await keys.find("key-1") is None


async def test_a_key_that_was_replaced_under_its_name_is_replaced_here(
    keys: IssuerKeys, idp: IdentityProvider, time: MovableTime
) -> None:
    await keys.find("key-1")
    new = replace(signing_key("ES256", "key-2"), key_id="key-1")
    idp.rotate(new, drop=True)
    time.passes(FRESH_SECONDS + 1)
    await keys.find("key-1")
    await settled(keys)

    key = await keys.find("key-1")

    assert key is not None
    assert isinstance(key.key, ec.EllipticCurvePublicKey)
    assert key.key == new.private.public_key()


async def test_a_strong_rsa_key_is_usable(keys: IssuerKeys, idp: IdentityProvider) -> None:
    idp.rotate(signing_key("RS256", "rsa"))

    key = await keys.find("rsa")

    assert key is not None
    assert isinstance(key.key, rsa.RSAPublicKey)
