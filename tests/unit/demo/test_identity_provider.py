"""Sign-in, metadata, keys, and the administrator's switches."""

import time
from typing import Any

import httpx2
import jwt
import pytest

from ext_authz.demo.oauth_endpoint import ID_JAG, TOKEN_EXCHANGE
from ext_authz.demo.world import World


def claims_of(world: World, token: str) -> dict[str, Any]:
    """The claims, verified the way a stranger would: by the published keys."""
    key = jwt.PyJWKClient(world.identity_provider.jwks_uri).get_signing_key_from_jwt(token)
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], audience="hub")
    return claims


def sign_in(world: World, **form: str) -> httpx2.Response:
    url = f"{world.identity_provider.issuer}/sign-in"
    return httpx2.post(url, data=form, trust_env=False)


def test_the_metadata_names_the_exact_issuer_and_offers_id_jags(world: World) -> None:
    issuer = world.identity_provider.issuer
    metadata = httpx2.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).json()

    assert metadata["issuer"] == issuer
    assert metadata["token_endpoint"] == f"{issuer}/token"
    assert metadata["grant_types_supported"] == [TOKEN_EXCHANGE]
    assert metadata["identity_chaining_requested_token_types_supported"] == [ID_JAG]
    assert metadata["id_token_signing_alg_values_supported"] == ["ES256"]
    assert metadata["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]


def test_the_keys_are_published_without_their_private_halves(world: World) -> None:
    keys = httpx2.get(world.identity_provider.jwks_uri, trust_env=False).json()["keys"]

    assert len(keys) >= 2
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in keys)


def test_a_sign_in_gives_an_id_token_for_the_hub(world: World) -> None:
    answer = sign_in(world, user="alice", password=world.password("alice"))
    claims = claims_of(world, answer.json()["id_token"])

    assert answer.headers["cache-control"] == "no-store"
    assert claims["iss"] == world.identity_provider.issuer
    assert claims["sub"] == "00u-alice"
    assert claims["email"] == "alice@corp.example"
    assert claims["exp"] == claims["iat"] + 3600
    assert claims["auth_time"] == pytest.approx(time.time(), abs=5)
    assert claims.keys() >= {"sid", "acr"}


def test_every_sign_in_is_a_session_of_its_own(world: World) -> None:
    first, second = (claims_of(world, world.sign_in("alice"))["sid"] for _ in range(2))

    assert first != second


@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_a_wrong_password_and_an_unknown_user_look_the_same(world: World, user: str) -> None:
    answer = sign_in(world, user=user, password="guess")

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_credentials"


def test_a_user_who_is_switched_off_cannot_sign_in_until_switched_on(world: World) -> None:
    admin = f"{world.identity_provider.issuer}/admin/users/carol"

    assert httpx2.post(f"{admin}/disable", trust_env=False).json()["disabled"] is True
    refused = sign_in(world, user="carol", password=world.password("carol"))
    assert httpx2.post(f"{admin}/enable", trust_env=False).json()["disabled"] is False

    assert (refused.status_code, refused.json()["error"]) == (403, "user_disabled")
    assert sign_in(world, user="carol", password=world.password("carol")).status_code == 200


@pytest.mark.parametrize("path", ["mallory/disable", "alice/promote"])
def test_there_is_nothing_to_switch_but_users_on_and_off(world: World, path: str) -> None:
    url = f"{world.identity_provider.issuer}/admin/users/{path}"

    assert httpx2.post(url, trust_env=False).status_code == 404


def test_a_sign_in_may_be_for_another_client_only_if_that_is_registered(world: World) -> None:
    password = world.password("alice")
    answer = sign_in(world, user="alice", password=password, client_id="stranger")

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_sign_ins_are_counted_by_what_came_of_them(world: World) -> None:
    url = f"{world.identity_provider.issuer}/admin/counts"
    before = httpx2.get(url, trust_env=False).json()
    world.sign_in("bob")
    sign_in(world, user="bob", password="guess")
    after = httpx2.get(url, trust_env=False).json()

    wrong = "invalid_credentials"
    assert after["sign_ins"] == before["sign_ins"] + 1
    assert after["refusals"][wrong] == before["refusals"].get(wrong, 0) + 1
