"""Whose signature counts: of the forged and the misdirected, none gets through."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest

from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import Users
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import SubjectToken
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.signing_keys import SigningKey, signing_key
from tests.doubles.tokens import ABSENT, Sign, base64url, compact, header_of, id_token_claims

ALGORITHMS = ["ES256", "ES384", "ES512", "EdDSA", "PS256", "RS256"]


def hmac_with(secret: bytes) -> Sign:
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


async def test_a_good_id_token_proves_its_user(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in(azp="hub"))

    user = await users.verify(token)

    assert user == VerifiedUser(
        provider=idp.registration(),
        issuer=idp.issuer,
        subject="alice",
        session="session-1",
        acr="mfa",
        agent="hub",
        expires_at=time.now + 3600,
        token=token,
    )


async def test_what_a_token_does_not_say_is_none(users: Users, idp: IdentityProvider) -> None:
    user = await users.verify(Secret(idp.sign_in(sid=ABSENT, acr=ABSENT)))

    assert (user.session, user.acr, user.agent) == (None, None, None)


async def test_an_access_tokens_client_is_the_agent(
    users_of: Callable[..., Users], idp: IdentityProvider
) -> None:
    users = users_of(idp.registration(subject_token=SubjectToken.ACCESS_TOKEN))

    user = await users.verify(Secret(idp.sign_in({"typ": "at+jwt"}, client_id="claude")))

    assert user.agent == "claude"


async def test_azp_goes_before_client_id(users: Users, idp: IdentityProvider) -> None:
    user = await users.verify(Secret(idp.sign_in(azp="hub", client_id="other")))

    assert user.agent == "hub"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_of_the_settings_verifies(
    users: Users, idp: IdentityProvider, algorithm: str
) -> None:
    idp.rotate(signing_key(algorithm), drop=True)

    user = await users.verify(Secret(idp.sign_in()))

    assert user.subject == "alice"


# ---- D1: algorithms


async def test_a_token_without_a_signature_algorithm_is_refused(
    users: Users, idp: IdentityProvider
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in({"alg": "none"}))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID


async def test_a_token_with_an_empty_signature_is_refused(
    users: Users, idp: IdentityProvider
) -> None:
    unsigned = idp.sign_in({"alg": "none"}).rpartition(".")[0] + "."

    denied = await denial(users.verify(Secret(unsigned)))

    assert denied.reason is Reason.TOKEN_MALFORMED


PUBLIC_FORMS: dict[str, Callable[[SigningKey], bytes]] = {
    "PEM": lambda key: key.public_pem(),
    "PEM without its last newline": lambda key: key.public_pem().strip(),
    "JWK": lambda key: json.dumps(key.jwk()).encode(),
    "JWKS": lambda key: json.dumps({"keys": [key.jwk()]}).encode(),
    "modulus": lambda key: str(key.jwk()["n"]).encode(),
}


@pytest.mark.parametrize("form", PUBLIC_FORMS.values(), ids=PUBLIC_FORMS)
@pytest.mark.parametrize("algorithms", [("RS256",), ("RS256", "HS256")], ids=["strict", "lax"])
async def test_hmac_with_the_public_key_is_no_signature(
    users_of: Callable[..., Users],
    idp: IdentityProvider,
    time: MovableTime,
    form: Callable[[SigningKey], bytes],
    algorithms: tuple[str, ...],
) -> None:
    """Even where the settings, by some accident, had let HS256 in."""
    key = signing_key("RS256")
    idp.rotate(key, drop=True)
    users = users_of(idp.registration(algorithms=algorithms))
    claims = id_token_claims(idp.issuer, time.now)
    forged = compact(header_of(key, alg="HS256"), claims, hmac_with(form(key)))

    denied = await denial(users.verify(Secret(forged)))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID


async def test_an_algorithm_that_the_settings_leave_out_is_refused_before_any_fetch(
    users_of: Callable[..., Users], idp: IdentityProvider
) -> None:
    users = users_of(idp.registration(algorithms=("RS256",)))

    denied = await denial(users.verify(Secret(idp.sign_in())))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert denied.detail == "alg is not one of the issuer's"
    assert idp.jwks.calls == []


@pytest.mark.parametrize(
    ("algorithm", "claimed"),
    [("ES256", "ES384"), ("ES256", "RS256"), ("RS256", "PS256"), ("RS256", "ES256")],
)
async def test_an_algorithm_that_is_not_the_keys_is_refused(
    users: Users, idp: IdentityProvider, algorithm: str, claimed: str
) -> None:
    idp.rotate(signing_key(algorithm), drop=True)

    denied = await denial(users.verify(Secret(idp.sign_in({"alg": claimed}))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert denied.detail == "alg is not that of the key"


@pytest.mark.parametrize("algorithm", ["es256", "ES256 ", "", "NONE", "RS512", "ES256K"])
async def test_an_algorithm_is_compared_to_the_letter(
    users: Users, idp: IdentityProvider, algorithm: str
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in({"alg": algorithm}))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID


async def test_a_signature_by_another_key_of_the_same_name_is_refused(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    impostor = replace(signing_key("ES256", "impostor"), key_id=idp.key.key_id)
    claims = id_token_claims(idp.issuer, time.now)

    denied = await denial(users.verify(Secret(compact(header_of(impostor), claims, impostor.sign))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert denied.detail == "InvalidSignatureError"


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "claims", "signature"])
async def test_a_token_that_was_changed_anywhere_is_refused(
    users: Users, idp: IdentityProvider, part: int
) -> None:
    segments = idp.sign_in().split(".")
    others = idp.sign_in({"x": 1}, sub="bob").split(".")
    segments[part] = others[part]

    denied = await denial(users.verify(Secret(".".join(segments))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID


# ---- D2, D3: what a header may not say


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwk", signing_key("ES256", "impostor").jwk()),
        ("jku", "https://evil.example/jwks"),
        ("x5u", "https://evil.example/cert"),
        ("x5c", ["MIIB"]),
        ("crit", ["exp"]),
        ("crit", []),
        ("b64", False),
        ("b64", True),
        ("zip", "DEF"),
        ("enc", "A256GCM"),
    ],
)
async def test_a_header_that_brings_its_own_key_or_changes_what_is_signed_is_refused(
    users: Users, idp: IdentityProvider, name: str, value: object
) -> None:
    """Although the signature is good."""
    denied = await denial(users.verify(Secret(idp.sign_in({name: value}))))

    assert denied.reason is Reason.TOKEN_MALFORMED
    assert idp.server.paths == []


async def test_a_key_in_the_header_does_not_verify_its_own_token(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    impostor = signing_key("ES256", "impostor")
    header = header_of(impostor, jwk=impostor.jwk())
    token = compact(header, id_token_claims(idp.issuer, time.now), impostor.sign)

    denied = await denial(users.verify(Secret(token)))

    assert denied.reason is Reason.TOKEN_MALFORMED


# ---- D4: key ids


@pytest.mark.parametrize("key_id", ["k", "k" * 256])
async def test_a_key_id_may_be_short_or_long(
    users: Users, idp: IdentityProvider, key_id: str
) -> None:
    idp.rotate(signing_key("ES256", key_id), drop=True)

    assert (await users.verify(Secret(idp.sign_in()))).subject == "alice"


@pytest.mark.parametrize(
    "key_id",
    [
        "",
        None,
        1,
        True,
        ["key-1"],
        {"kid": "key-1"},
        "k" * 257,
    ],
    ids=str,
)
async def test_a_key_id_of_another_shape_is_malformed_and_causes_no_fetch(
    users: Users, idp: IdentityProvider, key_id: object
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in({"kid": key_id}))))

    assert denied.reason is Reason.TOKEN_MALFORMED
    assert idp.server.paths == []


@pytest.mark.parametrize(
    "key_id",
    [
        "../../../../dev/null",
        "key-1' OR '1'='1",
        "key-1\n",
        "key-1\0",
        "KEY-1",
        "http://169.254.169.254/",
        "k" * 256,
    ],
)
async def test_a_key_id_is_nothing_but_a_name(
    users: Users, idp: IdentityProvider, key_id: str
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in({"kid": key_id}))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert denied.detail == "kid is not one of the issuer's"
    assert idp.server.paths == ["/.well-known/openid-configuration", "/jwks"]


async def test_without_a_key_id_the_issuers_only_key_counts(
    users: Users, idp: IdentityProvider
) -> None:
    user = await users.verify(Secret(idp.sign_in({"kid": ABSENT})))

    assert user.subject == "alice"


async def test_without_a_key_id_among_several_keys_none_is_guessed(
    users: Users, idp: IdentityProvider
) -> None:
    idp.rotate(signing_key("ES256", "key-2"))

    denied = await denial(users.verify(Secret(idp.sign_in({"kid": ABSENT}))))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID


# ---- D7: issuers


@pytest.mark.parametrize(
    "spelling",
    [
        lambda issuer: issuer + "/",
        lambda issuer: issuer.upper(),
        lambda issuer: issuer[:-1],
        lambda issuer: issuer + "x",
        lambda issuer: issuer.replace("127.0.0.1", "localhost"),
        lambda issuer: issuer + "/other-tenant",
        lambda issuer: [issuer],
        lambda issuer: {"iss": issuer},
        lambda issuer: None,
        lambda issuer: 7,
        lambda issuer: "",
        lambda issuer: ABSENT,
    ],
)
async def test_an_issuer_is_compared_to_the_letter(
    users: Users, idp: IdentityProvider, spelling: Callable[[str], object]
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(iss=spelling(idp.issuer)))))

    assert denied.reason is Reason.TOKEN_ISSUER_UNKNOWN
    assert idp.server.paths == []


async def test_an_issuer_that_the_settings_no_longer_name_is_unknown_at_once(
    users_of: Callable[..., Users], idp: IdentityProvider
) -> None:
    denied = await denial(users_of().verify(Secret(idp.sign_in())))

    assert denied.reason is Reason.TOKEN_ISSUER_UNKNOWN


async def test_two_issuers_with_the_same_key_id_never_cross(
    users_of: Callable[..., Users], idp: IdentityProvider, time: MovableTime
) -> None:
    key = replace(signing_key("ES256", "theirs"), key_id=idp.key.key_id)
    async with IdentityProvider(time, key=key) as other:
        users = users_of(idp.registration(), other.registration())
        crossed = other.sign_in(iss=idp.issuer)

        denied = await denial(users.verify(Secret(crossed)))
        ours = await users.verify(Secret(idp.sign_in()))
        theirs = await users.verify(Secret(other.sign_in()))

    assert denied.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert (ours.issuer, theirs.issuer) == (idp.issuer, other.issuer)


# ---- D10, D12: forms


def padded(token: str) -> str:
    return token + "="


def in_the_other_alphabet(token: str) -> str:
    """`-` and `_` become `+` and `/`, which lenient decoders take for the same."""
    return token.translate(str.maketrans("-_", "+/")) if set("-_") & set(token) else token + "+"


def with_stray_bits(token: str) -> str:
    """The last character's unused bits set: the same bytes to a lenient decoder."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


@pytest.mark.parametrize("spelling", [padded, in_the_other_alphabet, with_stray_bits])
async def test_a_token_has_one_spelling(
    users: Users, idp: IdentityProvider, spelling: Callable[[str], str]
) -> None:
    denied = await denial(users.verify(Secret(spelling(idp.sign_in()))))

    assert denied.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "form",
    [
        lambda token: "",
        lambda token: "..",
        lambda token: "opaque",
        lambda token: token.rpartition(".")[0],
        lambda token: token + ".c2ln",
        lambda token: token + ".aXY.dGFn",
        lambda token: "." + token,
        lambda token: token + ".",
        lambda token: token.replace(".", ".."),
        lambda token: token.replace(".", "\u3002"),
        lambda token: " " + token,
        lambda token: token + "\n",
        lambda token: token + "é",
        lambda token: token.replace(".", "." + "A" * 17_000 + ".", 1),
        lambda token: "A" * 17_000 + token,
    ],
)
async def test_only_three_segments_of_bounded_length_are_a_token(
    users: Users, idp: IdentityProvider, form: Callable[[str], str]
) -> None:
    """A JWE has five segments; anything else has none of our business."""
    denied = await denial(users.verify(Secret(form(idp.sign_in()))))

    assert denied.reason is Reason.TOKEN_MALFORMED
    assert idp.server.paths == []


async def test_a_token_inside_a_token_is_not_looked_for(
    users: Users, idp: IdentityProvider
) -> None:
    nested = compact(header_of(idp.key, cty="JWT"), f'"{idp.sign_in()}"'.encode(), idp.key.sign)

    denied = await denial(users.verify(Secret(nested)))

    assert denied.reason is Reason.TOKEN_MALFORMED


async def test_a_fault_never_quotes_the_token(users: Users, idp: IdentityProvider) -> None:
    token = idp.sign_in({"alg": "none", "kid": "canary"}, sub="canary")

    denied = await denial(users.verify(Secret(token)))

    assert "canary" not in f"{denied!r} {denied} {denied.detail}"
    assert token not in f"{denied!r} {denied} {denied.detail}"


# ---- when there are no keys


async def test_without_keys_nobody_is_believed(users: Users, idp: IdentityProvider) -> None:
    idp.jwks.dial = Dial(status=500)

    denied = await denial(users.verify(Secret(idp.sign_in())))

    assert denied.reason is Reason.ISSUER_KEYS_UNAVAILABLE


async def test_nothing_is_believed_that_pyjwt_alone_would_believe(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    """The same token, with a duplicate key: PyJWT takes the last, another parser the first."""
    payload = json.dumps(id_token_claims(idp.issuer, time.now)).encode()
    doubled = payload[:-1] + b', "sub": "bob"}'
    token = compact(header_of(idp.key), doubled, idp.key.sign)

    public = idp.key.private.public_key()
    trusting: jwt.types.Options = {"verify_aud": False, "verify_exp": False}
    believed = jwt.decode(token, public, algorithms=["ES256"], options=trusting)
    denied = await denial(users.verify(Secret(token)))

    assert believed["sub"] == "bob"
    assert denied.reason is Reason.TOKEN_MALFORMED
    assert denied.detail == "duplicate key"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}x",
        b"[]",
        b"null",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{}",
        b'{"exp": NaN}',
        b'{"exp": 1e999}',
        b'{"exp": ' + b"9" * 400 + b"}",
        b'{"sub": "\\ud800"}',
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b"{'sub': 'alice'}",
    ],
    ids=repr,
)
async def test_claims_are_strict_json_or_nothing(
    users: Users, idp: IdentityProvider, payload: bytes
) -> None:
    token = compact(header_of(idp.key), payload, idp.key.sign)

    denied = await denial(users.verify(Secret(token)))

    assert denied.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b'{"alg": "ES256", "alg": "none"}', b'{"alg": ["ES256"]}', b"{}", b'{"alg": 1}'],
    ids=repr,
)
async def test_a_header_is_strict_json_with_one_algorithm_or_nothing(
    users: Users, idp: IdentityProvider, time: MovableTime, header: bytes
) -> None:
    claims = id_token_claims(idp.issuer, time.now)

    denied = await denial(users.verify(Secret(compact(header, claims, idp.key.sign))))

    assert denied.reason is Reason.TOKEN_MALFORMED


def test_the_double_signs_what_pyjwt_verifies(time: MovableTime) -> None:
    """The doubles write tokens by hand; this is why the tests above may trust them."""
    key = signing_key()
    token = compact(header_of(key), {"sub": "alice"}, key.sign)

    assert jwt.decode(token, key.private.public_key(), algorithms=["ES256"]) == {"sub": "alice"}
    assert token.count("=") == 0
    assert base64url(b"\xff\xfe") == "__4"
