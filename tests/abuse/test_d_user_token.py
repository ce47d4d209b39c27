"""D, user tokens: forged, misdirected, of another kind, or in a second spelling."""

import ast
import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import ext_authz
from ext_authz.exchange.access_tokens import AccessTokens
from ext_authz.exchange.cache_key import cache_key
from ext_authz.identity import verify
from ext_authz.identity.claims import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS, VerifiedClaims
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import Users
from ext_authz.reasons import Reason
from ext_authz.settings.settings import SubjectToken
from tests.abuse.denied import Seen, denied_unproven, records_of
from tests.doubles.signing_keys import SigningKey, signing_key
from tests.doubles.tokens import (
    ABSENT,
    Sign,
    base64url,
    compact,
    header_of,
    id_token,
    id_token_claims,
)
from tests.pipeline.gateway import Gateway

pytestmark = pytest.mark.usefixtures("no_authorities")


def no_signature(_message: bytes) -> bytes:
    return b""


def hmac_with(secret: bytes) -> Sign:
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


def claims(gateway: Gateway, **changes: object) -> dict[str, object]:
    return id_token_claims(gateway.idp.issuer, gateway.time.now, **changes)


async def settled(gateway: Gateway) -> int:
    """How often the keys were asked for, once the fetch at the start is done."""
    assert (await gateway.call()).is_allow
    return len(gateway.idp.jwks.calls)


def reconfigure(gateway: Gateway, **changes: Any) -> None:
    """Before serving: other settings of the identity provider."""
    provider = gateway.idp.registration(**changes)
    gateway.change(identity_providers={provider.issuer: provider})


# ---- D1: algorithms


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
async def test_d1_alg_none_is_refused(gateway: Gateway, algorithm: str, seen: Seen) -> None:
    """With an empty signature the token has no canonical third segment; see the next test."""
    unsigned = compact({"alg": algorithm}, claims(gateway), no_signature)

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=unsigned)

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "es256", "ES256 ", "HS256"])
async def test_d1_alg_none_with_a_good_signature_is_refused(
    gateway: Gateway, algorithm: str, seen: Seen
) -> None:
    """Or with any other name that is not the settings' own, to the letter."""
    token = gateway.sign_in({"alg": algorithm})

    answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    seen(f"deny {answer.reason}")


PUBLIC_FORMS: dict[str, Callable[[SigningKey], bytes]] = {
    "PEM": lambda key: key.public_pem(),
    "PEM without its last newline": lambda key: key.public_pem().strip(),
    "DER": lambda key: key.private.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ),
    "JWK": lambda key: json.dumps(key.jwk()).encode(),
    "JWKS": lambda key: json.dumps({"keys": [key.jwk()]}).encode(),
    "modulus": lambda key: str(key.jwk()["n"]).encode(),
}


@pytest.mark.parametrize("form", PUBLIC_FORMS.values(), ids=PUBLIC_FORMS)
async def test_d1_hmac_with_the_public_key_is_refused(
    prepared: Gateway, form: Callable[[SigningKey], bytes], seen: Seen
) -> None:
    key = signing_key("RS256")
    prepared.idp.rotate(key, drop=True)
    async with prepared.serving():
        forged = compact(header_of(key, alg="HS256"), claims(prepared), hmac_with(form(key)))

        answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID, token=forged)

    seen(f"deny {answer.reason}")


async def test_d1_hmac_is_refused_even_where_the_settings_let_it_in(
    prepared: Gateway, seen: Seen
) -> None:
    """No settings file can; should one ever, the key's own kind still decides."""
    key = signing_key("RS256")
    prepared.idp.rotate(key, drop=True)
    reconfigure(prepared, algorithms=("RS256", "HS256"))
    async with prepared.serving():
        signed = hmac_with(key.public_pem())
        forged = compact(header_of(key, alg="HS256"), claims(prepared), signed)

        answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID, token=forged)

    seen(f"deny {answer.reason}")


async def test_d1_an_algorithm_that_the_settings_leave_out_is_refused(
    prepared: Gateway, seen: Seen
) -> None:
    reconfigure(prepared, algorithms=("RS256",))
    async with prepared.serving():
        answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID)

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize(
    ("algorithm", "claimed"),
    [("ES256", "ES384"), ("ES256", "RS256"), ("RS256", "PS256"), ("EdDSA", "ES256")],
)
async def test_d1_an_algorithm_that_is_not_the_keys_is_refused(
    prepared: Gateway, algorithm: str, claimed: str, seen: Seen
) -> None:
    prepared.idp.rotate(signing_key(algorithm), drop=True)
    async with prepared.serving():
        token = prepared.sign_in({"alg": claimed})

        answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    seen(f"deny {answer.reason}")


async def test_d1_a_signature_by_another_key_is_refused(gateway: Gateway, seen: Seen) -> None:
    impostor = signing_key("ES256", "impostor")
    forged = compact(header_of(gateway.idp.key), claims(gateway), impostor.sign)

    answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=forged)

    seen(f"deny {answer.reason}")


# ---- D2: headers that bring a key


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_d2_a_key_that_the_token_brings_is_never_used(
    gateway: Gateway, name: str, seen: Seen
) -> None:
    """The addresses are our own doubles', so that it would be seen if somebody asked there."""
    impostor = signing_key("ES256", "impostor")
    brought = {
        "jwk": impostor.jwk(),
        "jku": f"{gateway.authorization_server.issuer}/jwks",
        "x5u": f"{gateway.authorization_server.issuer}/cert",
        "x5c": [base64url(impostor.public_pem())],
    }
    forged = compact(header_of(impostor, **{name: brought[name]}), claims(gateway), impostor.sign)

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=forged)

    assert gateway.authorization_server.server.paths == []
    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_d2_such_a_header_is_refused_though_the_signature_is_good(
    gateway: Gateway, name: str, seen: Seen
) -> None:
    token = gateway.sign_in({name: "https://evil.example/"})

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=token)

    seen(f"deny {answer.reason}")


# ---- D3: headers that change what is signed


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": None},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
    ],
    ids=str,
)
async def test_d3_a_header_that_changes_what_is_signed_is_refused(
    gateway: Gateway, header: dict[str, object], seen: Seen
) -> None:
    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=gateway.sign_in(header))

    seen(f"deny {answer.reason}")


# ---- D4: key ids


@pytest.mark.parametrize(
    "key_id", ["", None, 1, True, 1.5, ["key-1"], {"kid": "key-1"}, "k" * 257, "k" * 9_000], ids=str
)
async def test_d4_a_kid_of_another_shape_is_refused_without_a_fetch(
    gateway: Gateway, key_id: object, seen: Seen
) -> None:
    fetches = await settled(gateway)
    gateway.time.passes(60)

    answer = await denied_unproven(
        gateway, Reason.TOKEN_MALFORMED, token=gateway.sign_in({"kid": key_id})
    )

    assert len(gateway.idp.jwks.calls) == fetches
    seen(f"deny {answer.reason}")


@pytest.mark.parametrize(
    "key_id",
    [
        "../../../../dev/null",
        "/proc/self/environ",
        "key-1' OR '1'='1",
        "key-1; DROP TABLE keys",
        "key-1\n",
        "key-1\0",
        "KEY-1",
        "http://169.254.169.254/",
        "${jndi:ldap://evil.example/}",
        "k" * 256,
    ],
)
async def test_d4_a_kid_is_a_name_and_costs_one_fetch_at_most(
    gateway: Gateway, key_id: str, seen: Seen
) -> None:
    fetches = await settled(gateway)
    gateway.time.passes(60)
    token = gateway.sign_in({"kid": key_id})

    for _ in range(3):
        answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    assert len(gateway.idp.jwks.calls) == fetches + 1
    assert set(gateway.idp.server.paths) == {"/.well-known/openid-configuration", "/jwks", "/token"}
    seen(f"deny {answer.reason}")


async def test_d4_a_kid_of_a_megabyte_is_refused(gateway: Gateway, seen: Seen) -> None:
    fetches = await settled(gateway)

    answer = await denied_unproven(
        gateway, Reason.TOKEN_MALFORMED, token=gateway.sign_in({"kid": "k" * 1_000_000})
    )

    assert len(gateway.idp.jwks.calls) == fetches
    seen(f"deny {answer.reason}")


async def test_d4_without_a_kid_no_key_is_guessed_among_several(
    prepared: Gateway, seen: Seen
) -> None:
    """Where the issuer has one key, a token without `kid` can only mean that one: RFC 7515 allows it."""
    prepared.idp.rotate(signing_key("ES256", "key-2"))
    async with prepared.serving():
        token = prepared.sign_in({"kid": ABSENT})

        answer = await denied_unproven(prepared, Reason.TOKEN_SIGNATURE_INVALID, token=token)

    seen(f"deny {answer.reason}")


# ---- D5: kinds of token


@pytest.mark.parametrize(
    "typ",
    [
        "oauth-id-jag+jwt",
        "logout+jwt",
        "secevent+jwt",
        "at+jwt",
        "application/at+jwt",
        "client-authentication+jwt",
        "dpop+jwt",
        "token-introspection+jwt",
        "vc+sd-jwt",
        "JWE",
        "",
        None,
        7,
        ["JWT"],
    ],
    ids=str,
)
async def test_d5_a_token_of_another_kind_is_no_id_token(
    gateway: Gateway, typ: object, seen: Seen
) -> None:
    """Good in everything else: signature, issuer, audience, times."""
    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in({"typ": typ})
    )

    seen(f"deny {answer.reason}")


OTHER_KINDS: dict[str, dict[str, object]] = {
    "logout token": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    "Keycloak's access token": {"typ": "Bearer"},
    "Keycloak's refresh token": {"typ": "Refresh"},
    "Keycloak's logout token": {"typ": "Logout"},
}


@pytest.mark.parametrize("changes", OTHER_KINDS.values(), ids=OTHER_KINDS)
async def test_d5_a_token_that_only_its_claims_tell_apart_is_no_id_token(
    gateway: Gateway, changes: dict[str, object], seen: Seen
) -> None:
    """Providers exist that put `typ: JWT` over everything."""
    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in(**changes)
    )

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"typ": "oauth-id-jag+jwt"}, {}),
        ({"typ": "logout+jwt"}, {}),
        ({}, {"nonce": "n"}),
        ({}, {"at_hash": "h"}),
        ({}, {"typ": "ID"}),
        ({}, {"events": {}}),
    ],
    ids=str,
)
async def test_d5_a_token_of_another_kind_is_no_access_token(
    prepared: Gateway, header: dict[str, object], changes: dict[str, object], seen: Seen
) -> None:
    reconfigure(prepared, subject_token=SubjectToken.ACCESS_TOKEN)
    async with prepared.serving():
        answer = await denied_unproven(
            prepared, Reason.TOKEN_CLAIMS_INVALID, token=prepared.sign_in(header, **changes)
        )

    seen(f"deny {answer.reason}")


async def test_d5_the_kinds_of_the_settings_pass(prepared: Gateway, seen: Seen) -> None:
    """Without this the tests above could not fail. RFC 9068 has `at+jwt`; many still send `JWT`."""
    reconfigure(prepared, subject_token=SubjectToken.ACCESS_TOKEN)
    async with prepared.serving():
        for typ in ("at+jwt", "application/at+jwt", "JWT", ABSENT):
            assert (await prepared.call(token=prepared.sign_in({"typ": typ}))).is_allow

    seen("allow (control)")


# ---- D6: audiences


@pytest.mark.parametrize(
    "audience",
    [
        "another-client",
        "hu",
        "hubs",
        "HUB",
        "hub/",
        " hub",
        "hub hub",
        "hub,another-client",
        "",
        [],
        ["another-client"],
        ["hub", "another-client"],
        ["hub", ["hub"]],
        ["hub", None],
        [["hub"]],
        {"hub": True},
        7,
        True,
    ],
    ids=str,
)
async def test_d6_another_audience_is_refused(
    gateway: Gateway, audience: object, seen: Seen
) -> None:
    """In an ID token's list every audience has to be ours (OpenID Connect Core 3.1.3.7, rule 3)."""
    answer = await denied_unproven(
        gateway, Reason.TOKEN_AUDIENCE_WRONG, token=gateway.sign_in(aud=audience)
    )

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("audience", [ABSENT, None], ids=["absent", "null"])
async def test_d6_no_audience_is_refused(gateway: Gateway, audience: object, seen: Seen) -> None:
    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in(aud=audience)
    )

    seen(f"deny {answer.reason}")


async def test_d6_an_azp_that_is_not_ours_is_refused(gateway: Gateway, seen: Seen) -> None:
    answer = await denied_unproven(
        gateway, Reason.TOKEN_AUDIENCE_WRONG, token=gateway.sign_in(azp="another-client")
    )

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("audience", ["https://api.other.example", ["https://api.other.example"]])
async def test_d6_an_access_token_for_others_only_is_refused(
    prepared: Gateway, audience: object, seen: Seen
) -> None:
    reconfigure(prepared, subject_token=SubjectToken.ACCESS_TOKEN)
    async with prepared.serving():
        answer = await denied_unproven(
            prepared, Reason.TOKEN_AUDIENCE_WRONG, token=prepared.sign_in(aud=audience)
        )

    seen(f"deny {answer.reason}")


async def test_d6_an_access_token_for_us_among_others_passes(prepared: Gateway, seen: Seen) -> None:
    """A decision: RFC 9068 section 4 asks for one of its audiences, and Keycloak adds `account`.

    Its `azp` is the client that the user signed in with: any that the provider registered.
    """
    reconfigure(prepared, subject_token=SubjectToken.ACCESS_TOKEN)
    async with prepared.serving():
        token = prepared.sign_in(aud=["account", "hub"], azp="desktop")

        assert (await prepared.call(token=token)).is_allow

    seen("allow (decided)")


# ---- D7: issuers


SPELLINGS: dict[str, Callable[[str], object]] = {
    "slash at the end": lambda issuer: issuer + "/",
    "upper case": str.upper,
    "beginning of it": lambda issuer: issuer[:-1],
    "more than it": lambda issuer: issuer + "1",
    "another tenant": lambda issuer: issuer + "/tenant-2",
    "name for the address": lambda issuer: issuer.replace("127.0.0.1", "localhost"),
    "https": lambda issuer: issuer.replace("http:", "https:"),
    "user info": lambda issuer: issuer.replace("127.", "x@127."),
    "space": lambda issuer: issuer + " ",
    "list": lambda issuer: [issuer],
    "object": lambda issuer: {"iss": issuer},
    "null": lambda issuer: None,
    "number": lambda issuer: 7,
    "empty": lambda issuer: "",
    "absent": lambda issuer: ABSENT,
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
async def test_d7_an_issuer_in_any_other_spelling_is_unknown(
    gateway: Gateway, spelling: Callable[[str], object], seen: Seen
) -> None:
    token = gateway.sign_in(iss=spelling(gateway.idp.issuer))

    answer = await denied_unproven(gateway, Reason.TOKEN_ISSUER_UNKNOWN, token=token)

    seen(f"deny {answer.reason}")


async def test_d7_an_unknown_issuer_is_never_asked_for_its_keys(
    gateway: Gateway, seen: Seen
) -> None:
    """Here it is an address of ours, so that a question would be seen."""
    token = gateway.sign_in(iss=gateway.authorization_server.issuer)

    answer = await denied_unproven(gateway, Reason.TOKEN_ISSUER_UNKNOWN, token=token)

    assert gateway.authorization_server.server.paths == []
    seen(f"deny {answer.reason}")


# ---- D8: times


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    ["1795003600", "", True, False, None, 1795003600.5, -1, 0, 2**40, 10**39, [1795003600], {}],
    ids=str,
)
async def test_d8_a_time_that_is_no_whole_number_in_range_is_refused(
    gateway: Gateway, name: str, value: object, seen: Seen
) -> None:
    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in(**{name: value})
    )

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("digits", ["9" * 400, "-" + "9" * 400, "1e400", "NaN", "Infinity", "0x7f"])
async def test_d8_a_time_that_is_no_number_at_all_is_refused(
    gateway: Gateway, name: str, digits: str, seen: Seen
) -> None:
    """Written by hand: no JSON writer would. Some are no JSON, some overflow what reads them."""
    text = json.dumps({**claims(gateway), name: "HERE"}).replace('"HERE"', digits)
    token = compact(header_of(gateway.idp.key), text.encode(), gateway.idp.key.sign)

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=token)

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("name", ["exp", "iat"])
async def test_d8_a_time_that_is_missing_is_refused(
    gateway: Gateway, name: str, seen: Seen
) -> None:
    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in(**{name: ABSENT})
    )

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize(
    ("issued", "expires"),
    [(0, MAX_LIFETIME_SECONDS + 1), (0, 10**10), (0, 0), (10, 5), (-(10**9), 3600)],
    ids=["a second too long", "centuries", "no life", "backwards", "decades"],
)
async def test_d8_an_absurd_life_is_refused(
    gateway: Gateway, issued: int, expires: int, seen: Seen
) -> None:
    now = gateway.time.now
    token = gateway.sign_in(iat=now + issued, exp=now + expires)

    answer = await denied_unproven(gateway, Reason.TOKEN_CLAIMS_INVALID, token=token)

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("name", ["iat", "nbf"])
async def test_d8_a_token_of_the_future_is_refused(gateway: Gateway, name: str, seen: Seen) -> None:
    token = gateway.sign_in(**{name: gateway.time.now + LEEWAY_SECONDS + 1})

    answer = await denied_unproven(gateway, Reason.TOKEN_CLAIMS_INVALID, token=token)

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("age", [LEEWAY_SECONDS, LEEWAY_SECONDS + 1, 86_400])
async def test_d8_an_expired_token_is_refused(gateway: Gateway, age: int, seen: Seen) -> None:
    expires = gateway.time.now - age
    token = gateway.sign_in(iat=expires - 60, exp=expires)

    answer = await denied_unproven(gateway, Reason.TOKEN_EXPIRED, token=token)

    seen(f"deny {answer.reason}")


# ---- D9: subjects


@pytest.mark.parametrize(
    "subject",
    [
        "",
        None,
        7,
        True,
        ["alice"],
        {"sub": "alice"},
        "a" * 256,
        "alice\0",
        "alice\n",
        "alice\x7f",
        "alice\u0085",
        "alice\u202e",  # right-to-left override
        "al\u200bice",  # zero-width space
        "alice\ufeff",
        "alice\ue000",  # private use
        "Zoe\u0308",  # the decomposed spelling of Zoë
        "\u212b",  # the Ångström sign, which is Å in NFC
        pytest.param(ABSENT, id="absent"),
    ],
    ids=ascii,
)
async def test_d9_a_subject_that_is_no_plain_bounded_text_is_refused(
    gateway: Gateway, subject: object, seen: Seen
) -> None:
    answer = await denied_unproven(
        gateway, Reason.TOKEN_CLAIMS_INVALID, token=gateway.sign_in(sub=subject)
    )

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("subject", [r"\ud800", r"alice\udfff", r"\udc00\ud800"])
async def test_d9_a_subject_with_a_lone_surrogate_is_refused(
    gateway: Gateway, subject: str, seen: Seen
) -> None:
    text = json.dumps(claims(gateway, sub="HERE")).replace("HERE", subject)
    token = compact(header_of(gateway.idp.key), text.encode(), gateway.idp.key.sign)

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=token)

    seen(f"deny {answer.reason}")


async def test_d9_subjects_that_look_alike_never_share_a_cache_slot(
    gateway: Gateway, seen: Seen
) -> None:
    """A decision: a look-alike is another user, not a forgery; subjects are compared byte by byte."""
    subjects = [
        "alice",
        "\u0430lice",  # Cyrillic
        "\u03b1lice",  # Greek
        "\uff41lice",  # full width
        "ali\u0441e",  # Cyrillic again
        "\ufb01",  # a ligature
        "fi",
        "Alice",
        "alice ",
        " alice",
    ]
    for subject in subjects:
        answer = await gateway.call(token=gateway.sign_in(sub=subject))

        token = answer.authorization.removeprefix("Bearer ")
        assert gateway.authorization_server.holders[token] == subject
        assert records_of(gateway, answer)[0]["token_source"] == "exchange"

    seen("allow, each their own")


# ---- D10: spellings of one token


def with_stray_bits(token: str) -> str:
    """The last character's unused bits set: the same bytes to a lenient decoder."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


def in_the_other_alphabet(token: str) -> str:
    """`-` and `_` as `+` and `/`, which lenient decoders take for the same."""
    return token.translate(str.maketrans("-_", "+/")) if set("-_") & set(token) else token + "+"


TOKEN_SPELLINGS: dict[str, Callable[[str], str]] = {
    "padded": lambda token: token + "==",
    "header padded": lambda token: token.replace(".", "=.", 1),
    "stray bits": with_stray_bits,
    "other alphabet": in_the_other_alphabet,
    "space before": lambda token: " " + token,
    "space after": lambda token: token + " ",
    "tab inside": lambda token: token.replace(".", ".\t", 1),
    "percent-encoded dots": lambda token: token.replace(".", "%2E"),
    "full-width dots": lambda token: token.replace(".", "\uff0e"),
    "quoted": lambda token: f'"{token}"',
    "comma after": lambda token: token + ",",
    "twice": lambda token: f"{token}, Bearer {token}",
}


@pytest.mark.parametrize("spelling", TOKEN_SPELLINGS.values(), ids=TOKEN_SPELLINGS)
async def test_d10_a_second_spelling_of_a_good_token_is_refused(
    gateway: Gateway, spelling: Callable[[str], str], seen: Seen
) -> None:
    token = gateway.sign_in()
    assert (await gateway.call(token=token)).is_allow

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=spelling(token))

    seen(f"deny {answer.reason}")


@pytest.mark.parametrize("name", ["sub", "iss", "aud", "exp"])
async def test_d10_a_claim_that_stands_twice_is_refused(
    gateway: Gateway, name: str, seen: Seen
) -> None:
    """PyJWT takes the last, whoever reads the token next perhaps the first."""
    text = json.dumps(claims(gateway))
    doubled = f'{{"{name}": "mallory", {text[1:]}'
    token = compact(header_of(gateway.idp.key), doubled.encode(), gateway.idp.key.sign)

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=token)

    seen(f"deny {answer.reason}")


# ---- D11: what is not verified decides nothing


def test_d11_only_verified_types_reach_a_decision(seen: Seen) -> None:
    """Mypy refuses an `UnverifiedJws` wherever one of these is asked for."""
    hints = get_type_hints

    assert hints(AccessTokens.token_for)["user"] is VerifiedUser
    assert hints(cache_key)["user"] is VerifiedUser
    assert hints(Users.verify)["return"] is VerifiedUser
    assert hints(verify._user)["claims"] is VerifiedClaims
    assert hints(verify._verified)["return"] is VerifiedClaims
    seen("no way by its types")


@pytest.mark.parametrize(
    ("verified", "maker"), [("VerifiedUser", "_user"), ("VerifiedClaims", "_verified")]
)
def test_d11_a_verified_type_is_made_in_one_place(verified: str, maker: str, seen: Seen) -> None:
    makers = [
        (file.name, function.name)
        for file in sorted(Path(*ext_authz.__path__).rglob("*.py"))
        for function in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) == verified
    ]

    assert makers == [("verify.py", maker)]
    seen("no way by its types")


async def test_d11_what_a_forged_token_says_of_itself_is_not_even_recorded(
    gateway: Gateway, seen: Seen
) -> None:
    impostor = signing_key("ES256", "impostor")
    said = {name: f"{name}-of-the-forger" for name in ("sub", "sid", "acr", "azp", "client_id")}
    forged = id_token(impostor, gateway.idp.issuer, gateway.time.now, {"kid": "key-1"}, **said)

    answer = await denied_unproven(gateway, Reason.TOKEN_SIGNATURE_INVALID, token=forged)

    assert b"-of-the-forger" not in gateway.audit_file.read_bytes()
    assert b"-of-the-forger" not in answer.response.SerializeToString()
    seen(f"deny {answer.reason}")


# ---- D12: other forms


SEGMENTS: dict[str, Callable[[str], str]] = {
    "one": lambda token: token.replace(".", ""),
    "two": lambda token: token.rpartition(".")[0],
    "four": lambda token: token + ".c2ln",
    "five, as a JWE has": lambda token: token + ".aXY.dGFn",
    "six": lambda token: token + ".a.b.c",
    "an empty first": lambda token: token[token.index(".") :],
    "an empty second": lambda token: token.split(".")[0] + ".." + token.split(".")[2],
    "an empty third": lambda token: token.rpartition(".")[0] + ".",
    "dots": lambda token: "." * 10_000,
    "a longer one than any": lambda token: "A" * 17_000 + token,
}


@pytest.mark.parametrize("form", SEGMENTS.values(), ids=SEGMENTS)
async def test_d12_only_three_segments_of_bounded_length_are_a_token(
    gateway: Gateway, form: Callable[[str], str], seen: Seen
) -> None:
    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=form(gateway.sign_in()))

    seen(f"deny {answer.reason}")


async def test_d12_an_encrypted_header_is_refused(gateway: Gateway, seen: Seen) -> None:
    token = gateway.sign_in({"alg": "RSA-OAEP", "enc": "A256GCM"})

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=token)

    seen(f"deny {answer.reason}")


async def test_d12_a_token_inside_a_token_is_not_looked_for(gateway: Gateway, seen: Seen) -> None:
    key = gateway.idp.key
    nested = compact(header_of(key, cty="JWT"), gateway.sign_in().encode(), key.sign)

    answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=nested)

    seen(f"deny {answer.reason}")


async def test_d12_deep_claims_are_refused_quickly(gateway: Gateway, seen: Seen) -> None:
    key = gateway.idp.key
    deep = b'{"a":' * 2_000 + b"1" + b"}" * 2_000
    bomb = compact(header_of(key), deep, key.sign)

    async with asyncio.timeout(2):
        answer = await denied_unproven(gateway, Reason.TOKEN_MALFORMED, token=bomb)

    seen(f"deny {answer.reason}")
