"""New keys at the identity provider, while everybody else goes on."""

from collections.abc import Iterator

import httpx2
import jwt
import pytest

from ext_authz.demo.signing_keys import KeyRing
from ext_authz.demo.world import World

from .conftest import Hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A world of one's own: the others must not lose their keys."""
    with World.in_thread() as world, httpx2.Client(trust_env=False) as http:
        yield Hub(world=world, http=http)


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def rotate(world: World, query: str = "") -> None:
    url = f"{world.identity_provider.issuer}/admin/rotate-keys{query}"
    assert httpx2.post(url, trust_env=False).status_code == 200


def test_after_a_rotation_old_sign_ins_and_new_id_jags_are_good(hub: Hub) -> None:
    world = hub.world
    id_token = world.sign_in("alice")
    before = hub.exchange(id_token, world.crm).json()["access_token"]
    assert hub.redeem(before, world.crm).status_code == 200  # both servers hold the keys by now
    assert hub.redeem(hub.id_jag("alice", world.wiki), world.wiki).status_code == 200

    rotate(world)
    after = hub.exchange(id_token, world.crm).json()["access_token"]

    assert kid(after) != kid(before)
    assert hub.redeem(after, world.crm).status_code == 200
    assert hub.redeem(hub.id_jag("alice", world.wiki), world.wiki).status_code == 200


def test_a_dropped_key_takes_what_it_signed_with_it(hub: Hub) -> None:
    world = hub.world
    id_token = world.sign_in("alice")
    rotate(world, "?drop=1")
    answer = hub.exchange(id_token, world.crm)
    published = httpx2.get(world.identity_provider.jwks_uri, trust_env=False).json()["keys"]

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert kid(id_token) not in [key["kid"] for key in published]
    assert hub.exchange(world.sign_in("alice"), world.crm).status_code == 200


def test_the_wiki_fetches_a_key_that_was_never_announced_to_it(hub: Hub) -> None:
    world = hub.world
    assert hub.redeem(hub.id_jag("alice", world.wiki), world.wiki).status_code == 200

    world.rotate_keys()
    world.rotate_keys(drop=True)

    assert hub.redeem(hub.id_jag("alice", world.wiki), world.wiki).status_code == 200


def test_the_next_key_is_published_before_it_signs() -> None:
    ring = KeyRing()
    announced = {key["kid"] for key in ring.jwks()["keys"]}
    ring.rotate()

    assert kid(ring.sign({})) in announced
