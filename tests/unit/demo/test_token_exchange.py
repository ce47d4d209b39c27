"""Leg 1: what the identity provider makes of an exchange, good and bad."""

import time

import httpx2
import jwt
import pytest

from ext_authz.demo.oauth_endpoint import ID_JAG
from ext_authz.demo.site import Site
from ext_authz.demo.world import World

from .conftest import Hub


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_an_id_token_becomes_an_id_jag_for_exactly_one_server(
    world: World, hub: Hub, site: Site
) -> None:
    answer = hub.exchange(world.sign_in("alice"), site)
    body = answer.json()
    token = body.pop("access_token")
    key = jwt.PyJWKClient(world.identity_provider.jwks_uri).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=site.issuer)

    assert answer.headers["cache-control"] == "no-store"
    assert body == {
        "issued_token_type": ID_JAG,
        "token_type": "N_A",
        "expires_in": 300,
        "scope": " ".join(site.scopes),
    }
    assert jwt.get_unverified_header(token)["typ"] == "oauth-id-jag+jwt"
    assert claims["iss"] == world.identity_provider.issuer
    assert claims["aud"] == site.issuer
    assert claims["client_id"] == site.client_id
    assert claims["resource"] == site.resource
    assert claims["scope"] == " ".join(site.scopes)
    assert claims["sub"] == "00u-alice"
    assert claims["exp"] - claims["iat"] == 300
    assert claims.keys() >= {"jti", "auth_time", "acr"}
    assert "email" not in claims


def test_the_scope_is_narrowed_to_what_the_user_may_have(world: World, hub: Hub) -> None:
    answer = hub.exchange(world.sign_in("bob"), world.crm)

    assert answer.json()["scope"] == "tickets.read"


def test_no_scope_asked_is_all_that_the_user_may_have(world: World, hub: Hub) -> None:
    answer = hub.exchange(world.sign_in("alice"), world.crm, scope=None)

    assert answer.json()["scope"] == "tickets.read tickets.write"


def test_no_allowed_scope_at_all_is_refused(world: World, hub: Hub) -> None:
    answer = hub.exchange(world.sign_in("bob"), world.crm, scope="tickets.write")

    assert refusal(answer) == (400, "invalid_scope")


def test_a_user_without_the_server_gets_no_id_jag_for_it(world: World, hub: Hub) -> None:
    assert refusal(hub.exchange(world.sign_in("bob"), world.wiki)) == (400, "invalid_target")


@pytest.mark.parametrize("swap", ["audience", "resource"])
def test_audience_and_resource_are_a_pair(world: World, hub: Hub, swap: str) -> None:
    other = {"audience": world.wiki.issuer, "resource": world.wiki.resource}[swap]
    answer = hub.exchange(world.sign_in("alice"), world.crm, **{swap: other})

    assert refusal(answer) == (400, "invalid_target")


def test_an_issuer_is_compared_to_the_letter(world: World, hub: Hub) -> None:
    without_slash = world.crm.issuer.rstrip("/")
    answer = hub.exchange(world.sign_in("alice"), world.crm, audience=without_slash)

    assert refusal(answer) == (400, "invalid_target")


@pytest.mark.parametrize(
    "missing",
    ["grant_type", "requested_token_type", "audience", "resource", "subject_token",
     "subject_token_type"],
)  # fmt: skip
def test_a_missing_parameter_is_an_invalid_request(world: World, hub: Hub, missing: str) -> None:
    answer = hub.exchange(world.sign_in("alice"), world.crm, **{missing: None})

    assert refusal(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    "changes",
    [
        {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"actor_token": "somebody"},
    ],
)
def test_another_kind_of_exchange_is_not_offered(
    world: World, hub: Hub, changes: dict[str, str]
) -> None:
    answer = hub.exchange(world.sign_in("alice"), world.crm, **changes)

    assert refusal(answer) == (400, "invalid_request")


def test_another_grant_is_not_offered(world: World, hub: Hub) -> None:
    answer = hub.exchange(world.sign_in("alice"), world.crm, grant_type="password")

    assert refusal(answer) == (400, "unsupported_grant_type")


def test_a_repeated_parameter_is_refused(world: World, hub: Hub) -> None:
    form = f"resource={world.crm.resource}&resource={world.wiki.resource}"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    url = world.identity_provider.token_endpoint
    answer = hub.http.post(url, content=form, headers=headers)

    assert refusal(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"grant_type": "x"}'),
        ("application/x-www-form-urlencoded", "grant_type=ü".encode()),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    world: World, hub: Hub, content_type: str, body: bytes
) -> None:
    url = world.identity_provider.token_endpoint
    answer = hub.http.post(url, content=body, headers={"content-type": content_type})

    assert refusal(answer) == (400, "invalid_request")


def test_an_expired_id_token_is_refused(world: World, hub: Hub) -> None:
    alice = world.identity_provider.policy.users[0]
    expired = world.identity_provider.id_token(alice, seconds=-1)

    assert refusal(hub.exchange(expired, world.crm)) == (400, "invalid_grant")


def test_an_id_token_for_another_client_is_refused(world: World, hub: Hub) -> None:
    alice = world.identity_provider.policy.users[0]
    others = world.identity_provider.id_token(alice, client_id="another-app")

    assert refusal(hub.exchange(others, world.crm)) == (400, "invalid_grant")


def test_an_id_token_of_another_signer_is_refused(world: World, hub: Hub) -> None:
    claims = jwt.decode(world.sign_in("alice"), options={"verify_signature": False})
    forged = jwt.encode(claims, world.hub_private_key.reveal(), algorithm="ES256")

    assert refusal(hub.exchange(forged, world.crm)) == (400, "invalid_grant")


@pytest.mark.parametrize("typ", ["at+jwt", "oauth-id-jag+jwt", "client-authentication+jwt"])
def test_a_token_that_calls_itself_something_else_is_no_id_token(
    world: World, hub: Hub, typ: str
) -> None:
    claims = jwt.decode(world.sign_in("alice"), options={"verify_signature": False})
    other_kind = world.identity_provider.keys.sign(claims, typ=typ)

    assert refusal(hub.exchange(other_kind, world.crm)) == (400, "invalid_grant")


@pytest.mark.parametrize("garbage", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_garbage_is_no_id_token(world: World, hub: Hub, garbage: str) -> None:
    assert refusal(hub.exchange(garbage, world.crm)) == (400, "invalid_grant")


def test_a_user_who_is_switched_off_gets_no_more_id_jags(world: World, hub: Hub) -> None:
    id_token = world.sign_in("carol")
    assert hub.exchange(id_token, world.crm).status_code == 200

    world.disable("carol")
    answer = hub.exchange(id_token, world.crm)
    world.enable("carol")

    assert refusal(answer) == (400, "invalid_grant")


def test_exchanges_are_counted_by_what_came_of_them(world: World, hub: Hub) -> None:
    before = world.counts()
    hub.exchange(world.sign_in("alice"), world.wiki)
    hub.exchange(world.sign_in("bob"), world.wiki)
    after = world.counts()

    refused = "invalid_target"
    assert after.leg1 == before.leg1 + 1
    assert after.leg1_refused[refused] == before.leg1_refused.get(refused, 0) + 1


def test_an_id_jag_does_not_outlive_its_time(world: World, hub: Hub, site: Site) -> None:
    now = int(time.time())
    claims = jwt.decode(hub.id_jag("alice", site), options={"verify_signature": False})
    late = {**claims, "jti": "late", "iat": now - 700, "exp": now - 400}
    answer = hub.redeem(world.identity_provider.keys.sign(late, typ="oauth-id-jag+jwt"), site)

    assert answer.json()["error"] == "invalid_grant"
