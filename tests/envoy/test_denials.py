"""A denial is ours from the status to the last byte, and the MCP server hears nothing of it."""

from collections.abc import Callable, Iterator

import jwt
import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import call
from tests.envoy.witnessed import reaching


def no_token(world: World) -> str:
    return ""


def no_jwt(world: World) -> str:
    return "opaque"


def another_issuers(world: World) -> str:
    return "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwuZXhhbXBsZSJ9.c2ln"


def forged(world: World) -> str:
    head, payload, signature = world.sign_in("alice").split(".")
    return f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def expired(world: World) -> str:
    """As `sign_in` gives them, but of two hours ago."""
    claims = jwt.decode(world.sign_in("alice"), options={"verify_signature": False})
    then = {name: claims[name] - 7200 for name in ("iat", "exp", "auth_time")}
    return world.identity_provider.keys.sign(claims | then)


def for_another_client(world: World) -> str:
    user = world.identity_provider.policy.user("alice")
    assert user is not None
    return world.identity_provider.id_token(user, client_id="another")


def of_one_whom_policy_refuses(world: World) -> str:
    return world.sign_in("bob")


def of_one_switched_off(world: World) -> str:
    token = world.sign_in("carol")
    world.disable("carol")
    return token


@pytest.fixture(autouse=True)
def _everyone_is_switched_on_again(world: World) -> Iterator[None]:
    yield
    world.enable("carol")


@pytest.mark.parametrize(
    ("token", "status", "reason"),
    [
        (no_token, 401, "token_missing"),
        (no_jwt, 401, "token_malformed"),
        (another_issuers, 401, "token_issuer_unknown"),
        (forged, 401, "token_signature_invalid"),
        (expired, 401, "token_expired"),
        (for_another_client, 401, "token_audience_wrong"),
        (of_one_switched_off, 401, "subject_token_refused"),
        (of_one_whom_policy_refuses, 403, "policy_denied"),
    ],
)
async def test_a_token_that_is_no_good_is_refused_in_our_words(
    world: World, front: Front, token: Callable[[World], str], status: int, reason: str
) -> None:
    with reaching("wiki", world) as notes:
        answer = await call(front.server_url("wiki"), token(world))

    error = answer.json()["error"]
    assert answer.status_code == status
    assert answer.headers["x-mcp-ext-authz-reason"] == error["data"]["reason"] == reason
    assert answer.headers["x-mcp-ext-authz-decision"] == error["data"]["decision_id"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert answer.json()["id"] == 1
    assert notes == []
    assert world.user_tokens_seen() == 0


async def test_the_same_refused_token_again_is_a_403_that_opens_no_sign_in(
    world: World, front: Front
) -> None:
    token = of_one_switched_off(world)
    answers = [await call(front.server_url("wiki"), token) for _ in range(2)]

    assert [answer.headers["x-mcp-ext-authz-reason"] for answer in answers] == [
        "subject_token_refused",
        "sign_in_loop",
    ]
    assert answers[1].status_code == 403
    assert "www-authenticate" not in answers[1].headers
