"""How we say at a token endpoint who we are."""

import base64
from dataclasses import replace
from urllib.parse import unquote_plus

import jwt
import pytest

from ext_authz.exchange.client_auth import ASSERTION_SECONDS, Credentials, credentials_for
from ext_authz.settings.secret_source import SecretUnreadable
from ext_authz.settings.settings import AssertionAudience, AuthMethod, OAuthClient
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import client
from tests.doubles.signing_keys import SigningKey, signing_key

ISSUER = "https://idp.corp.example"
ENDPOINT = "https://idp.corp.example/oauth2/v1/token"


@pytest.fixture
def key_client(monkeypatch: pytest.MonkeyPatch) -> OAuthClient:
    """A client that signs with an ES256 key."""
    monkeypatch.setenv("HUB_KEY", signing_key("ES256", "hub").private_pem())
    return client("hub", "HUB_KEY", AuthMethod.PRIVATE_KEY_JWT)


def credentials(of: OAuthClient, time: MovableTime) -> Credentials:
    return credentials_for(of, ISSUER, ENDPOINT, time.clock)


def verified(assertion: str, key: SigningKey, audience: str) -> dict[str, object]:
    return dict(
        jwt.decode(
            assertion,
            key.private.public_key(),
            algorithms=[key.algorithm],
            audience=audience,
            options={"verify_exp": False, "verify_iat": False, "strict_aud": True},
        )
    )


# ---- secrets


async def test_client_secret_post_puts_the_secret_into_the_form(
    monkeypatch: pytest.MonkeyPatch, time: MovableTime
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")

    found = credentials(client("hub", "SECRET", AuthMethod.CLIENT_SECRET_POST), time)

    assert found.form == {"client_id": "hub", "client_secret": "s3cret"}
    assert found.headers == {}


async def test_client_secret_basic_puts_it_into_the_header(
    monkeypatch: pytest.MonkeyPatch, time: MovableTime
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")

    found = credentials(client("hub", "SECRET", AuthMethod.CLIENT_SECRET_BASIC), time)

    assert found.form == {"client_id": "hub"}
    assert found.headers == {"authorization": "Basic aHViOnMzY3JldA=="}


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("hub:1", "a:b"),
        ("hub at crm", "a b+c"),
        ("https://hub.example/client.json", "100%"),
        ("hub", "%41"),
        ("hub", "äöü€"),
        ("hub", "~!*'()&=?#/\\\"<>"),
    ],
)
async def test_basic_encodes_both_parts_before_it_joins_them(
    monkeypatch: pytest.MonkeyPatch, time: MovableTime, client_id: str, secret: str
) -> None:
    """RFC 6749 section 2.3.1, which many leave out: a colon in the id would shift the secret."""
    monkeypatch.setenv("SECRET", secret)

    found = credentials(client(client_id, "SECRET", AuthMethod.CLIENT_SECRET_BASIC), time)

    pair = base64.b64decode(found.headers["authorization"].removeprefix("Basic ")).decode("ascii")
    sent_id, colon, sent_secret = pair.partition(":")
    assert colon
    assert (unquote_plus(sent_id), unquote_plus(sent_secret)) == (client_id, secret)
    assert found.form == {"client_id": client_id}


async def test_basic_is_what_the_rfc_spells(
    monkeypatch: pytest.MonkeyPatch, time: MovableTime
) -> None:
    monkeypatch.setenv("SECRET", "s:cr&t +%")

    found = credentials(client("a b", "SECRET", AuthMethod.CLIENT_SECRET_BASIC), time)

    pair = base64.b64decode(found.headers["authorization"].removeprefix("Basic "))
    assert pair == b"a+b:s%3Acr%26t+%2B%25"


# ---- keys


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
async def test_private_key_jwt_proves_the_key_and_shows_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, time: MovableTime, key_client: OAuthClient, algorithm: str
) -> None:
    key = signing_key(algorithm, "hub")
    monkeypatch.setenv("HUB_KEY", key.private_pem())

    found = credentials(replace(key_client, algorithm=algorithm), time)

    assertion = found.form.pop("client_assertion")
    claims = verified(assertion, key, ISSUER)
    jti = claims.pop("jti")
    assert found.headers == {}
    assert found.form == {
        "client_id": "hub",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert jwt.get_unverified_header(assertion) == {
        "alg": algorithm,
        "typ": "client-authentication+jwt",
    }
    assert jti
    assert claims == {
        "iss": "hub",
        "sub": "hub",
        "aud": ISSUER,
        "iat": time.now,
        "exp": time.now + ASSERTION_SECONDS,
    }


async def test_the_key_is_named_where_the_settings_name_it(
    key_client: OAuthClient, time: MovableTime
) -> None:
    found = credentials(replace(key_client, key_id="2026-11"), time)

    assert jwt.get_unverified_header(found.form["client_assertion"])["kid"] == "2026-11"


@pytest.mark.parametrize(
    ("setting", "audience"),
    [(AssertionAudience.ISSUER, ISSUER), (AssertionAudience.TOKEN_ENDPOINT, ENDPOINT)],
)
async def test_the_assertion_is_for_whom_the_settings_say(
    key_client: OAuthClient, time: MovableTime, setting: AssertionAudience, audience: str
) -> None:
    found = credentials(replace(key_client, assertion_audience=setting), time)

    key = signing_key("ES256", "hub")
    assert verified(found.form["client_assertion"], key, audience)["aud"] == audience


async def test_no_assertion_is_ever_used_twice(key_client: OAuthClient, time: MovableTime) -> None:
    assertions = [credentials(key_client, time).form["client_assertion"] for _ in range(100)]
    names = {jwt.decode(text, options={"verify_signature": False})["jti"] for text in assertions}

    assert len(names) == 100


# ---- what cannot be read


@pytest.mark.parametrize("method", list(AuthMethod))
async def test_a_credential_that_is_not_there_is_unreadable(
    method: AuthMethod, time: MovableTime
) -> None:
    with pytest.raises(SecretUnreadable, match="NOWHERE"):
        credentials(client("hub", "NOWHERE", method), time)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----\nhalf",
        "not a key",
        signing_key("ES256", "hub").public_pem().decode(),
        signing_key("RS256", "hub").private_pem(),
        signing_key("EdDSA", "hub").private_pem(),
    ],
    ids=["half", "no key", "public", "RSA", "Edwards"],
)
async def test_a_key_that_is_none_for_the_algorithm_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, key_client: OAuthClient, time: MovableTime, text: str
) -> None:
    """The file is read anew each time, and may be half-written just then."""
    monkeypatch.setenv("HUB_KEY", text)

    with pytest.raises(SecretUnreadable, match=r"^it is not a private key for ES256$"):
        credentials(key_client, time)


async def test_no_form_of_credentials_shows_them(
    monkeypatch: pytest.MonkeyPatch, time: MovableTime
) -> None:
    monkeypatch.setenv("SECRET", "canary")

    for method in (AuthMethod.CLIENT_SECRET_POST, AuthMethod.CLIENT_SECRET_BASIC):
        found = credentials(client("hub", "SECRET", method), time)

        assert f"{found}{found!r}" == "Credentials()" * 2
