"""Which client is at the identity provider's token endpoint."""

import base64
import time
from collections.abc import Mapping

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ext_authz.demo.client_authentication import ClientAuthentication
from ext_authz.demo.oauth_endpoint import Refusal
from ext_authz.demo.policy import Policy, RegisteredClient
from ext_authz.demo.world import World
from ext_authz.secret import Secret

from .conftest import ASSERTION_TYPE, Hub

ISSUER = "https://idp.corp.example"
PASSWORD = "s:cr&t +%"  # every character that a careless encoding loses


@pytest.fixture
def clients() -> ClientAuthentication:
    policy = Policy(
        issuer=ISSUER,
        sign_in_client="hub",
        users=(),
        clients=(
            RegisteredClient(client_id="b", auth="client_secret_basic", secret=Secret(PASSWORD)),
            RegisteredClient(client_id="p", auth="client_secret_post", secret=Secret(PASSWORD)),
        ),
        connections=(),
    )
    return ClientAuthentication(policy, token_endpoint=f"{ISSUER}/token")


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_a_secret_in_the_header_authenticates(clients: ClientAuthentication) -> None:
    assert clients.authenticate(basic("b:s%3Acr%26t+%2B%25"), {}).client_id == "b"


def test_a_secret_in_the_form_authenticates(clients: ClientAuthentication) -> None:
    form = {"client_id": "p", "client_secret": PASSWORD}

    assert clients.authenticate("", form).client_id == "p"


@pytest.mark.parametrize(
    ("authorization", "form"),
    [
        ("", {}),
        ("", {"client_id": "p"}),
        ("", {"client_id": "p", "client_secret": "wrong"}),
        ("", {"client_id": "p", "client_secret": ""}),
        ("", {"client_id": "b", "client_secret": PASSWORD}),  # registered for the header
        ("", {"client_id": "nobody", "client_secret": PASSWORD}),
        (basic("b:wrong"), {}),
        (basic("b"), {}),
        (basic("b:s%3Acr%26t+%2B%25"), {"client_id": "p"}),
        ("Basic not base64", {}),
        ("Bearer something", {}),
    ],
)
def test_anything_else_is_an_invalid_client(
    clients: ClientAuthentication, authorization: str, form: Mapping[str, str]
) -> None:
    with pytest.raises(Refusal) as refused:
        clients.authenticate(authorization, form)

    assert (refused.value.status, refused.value.error) == (401, "invalid_client")


def test_two_ways_at_once_are_malformed(clients: ClientAuthentication) -> None:
    with pytest.raises(Refusal) as refused:
        clients.authenticate(basic("b:x"), {"client_id": "b", "client_secret": "x"})

    assert (refused.value.status, refused.value.error) == (400, "invalid_request")


def test_the_audience_may_be_the_issuer_or_the_token_endpoint(world: World, hub: Hub) -> None:
    at_endpoint = hub.assertion(aud=world.identity_provider.token_endpoint)
    answer = hub.exchange(world.sign_in("alice"), world.crm, client_assertion=at_endpoint)

    assert answer.status_code == 200


def test_an_assertion_is_good_for_one_request(world: World, hub: Hub) -> None:
    assertion = hub.assertion()
    first, second = (
        hub.exchange(world.sign_in("alice"), world.crm, client_assertion=assertion)
        for _ in range(2)
    )

    assert first.status_code == 200
    assert (second.status_code, second.json()["error"]) == (401, "invalid_client")
    assert second.headers["www-authenticate"] == "Basic"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://elsewhere.example"},
        {"aud": ["https://elsewhere.example"]},
        {"iss": "somebody"},
        {"sub": "somebody"},
        {"exp": int(time.time()) - 60},
        {"exp": int(time.time()) + 3600},
        {"exp": "soon"},
    ],
)
def test_an_assertion_that_says_something_else_is_refused(
    world: World, hub: Hub, claims: dict[str, object]
) -> None:
    assertion = hub.assertion(**claims)
    answer = hub.exchange(world.sign_in("alice"), world.crm, client_assertion=assertion)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_the_assertion_of_a_stolen_name_is_refused(world: World, hub: Hub) -> None:
    claims = jwt.decode(hub.assertion(), options={"verify_signature": False})
    forged = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    answer = hub.exchange(world.sign_in("alice"), world.crm, client_assertion=forged)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_assertion_type": None},
        {"client_assertion_type": "urn:other"},
        {"client_assertion": None},
        {"client_assertion": "garbage"},
        {"client_id": "somebody"},
    ],
)
def test_an_incomplete_or_contradicting_assertion_is_refused(
    world: World, hub: Hub, changes: dict[str, str | None]
) -> None:
    answer = hub.exchange(world.sign_in("alice"), world.crm, **changes)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_an_id_token_is_no_client_assertion(world: World, hub: Hub) -> None:
    id_token = world.sign_in("alice")
    answer = hub.exchange(
        id_token, world.crm, client_assertion=id_token, client_assertion_type=ASSERTION_TYPE
    )

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
