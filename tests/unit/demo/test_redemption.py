"""Leg 2: what the two authorization servers, FastMCP's and Authlib's, make of an ID-JAG.

They differ in status codes and in what they do with a scope that is too wide; the tests say how.
"""

import time
import uuid
from typing import Any

import httpx2
import jwt
import pytest

from ext_authz.demo.oauth_endpoint import ID_JAG_PROFILE, ID_JAG_TYP, JWT_BEARER
from ext_authz.demo.signing_keys import KeyRing
from ext_authz.demo.site import Site
from ext_authz.demo.wiki_authorization_server import (
    ACCESS_TOKEN_SECONDS,
    wiki_authorization_server_app,
)
from ext_authz.demo.world import World

from .conftest import Hub

REFUSED = {"crm": 401, "wiki": 400}  # FastMCP follows MCP, Authlib RFC 6749 section 5.2


def unverified(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


def self_made(world: World, site: Site, typ: str = ID_JAG_TYP, **changes: Any) -> str:
    """An ID-JAG as the identity provider would sign it, but for the changes."""
    now = int(time.time())
    claims = {
        "iss": world.identity_provider.issuer,
        "sub": "00u-alice",
        "aud": site.issuer,
        "client_id": site.client_id,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + 300,
        "resource": site.resource,
        "scope": " ".join(site.scopes),
    }
    return world.identity_provider.keys.sign({**claims, **changes}, typ=typ)


def test_the_metadata_names_the_issuer_exactly_as_the_world_does(site: Site) -> None:
    url = f"{site.issuer.rstrip('/')}/.well-known/oauth-authorization-server"
    metadata = httpx2.get(url, trust_env=False).json()

    assert metadata["issuer"] == site.issuer
    assert metadata["token_endpoint"] == site.token_endpoint
    assert JWT_BEARER in metadata["grant_types_supported"]
    assert metadata["authorization_grant_profiles_supported"] == [ID_JAG_PROFILE]


def test_an_id_jag_becomes_an_access_token_for_its_resource(hub: Hub, site: Site) -> None:
    answer = hub.redeem(hub.id_jag("alice", site), site)
    body = answer.json()
    claims = unverified(body.pop("access_token"))

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert body.pop("expires_in") == {"crm": 300, "wiki": ACCESS_TOKEN_SECONDS}[site.name]
    assert body == {"token_type": "Bearer", "scope": " ".join(site.scopes)}
    assert claims["iss"] == site.issuer
    assert claims["aud"] == site.resource
    assert claims["sub"] == "00u-alice"
    assert claims["client_id"] == site.client_id
    assert claims["scope"] == " ".join(site.scopes)


def test_the_wikis_access_tokens_verify_by_its_published_keys(world: World, hub: Hub) -> None:
    token = hub.access_token("alice", world.wiki)
    key = jwt.PyJWKClient(f"{world.wiki.issuer}/jwks").get_signing_key_from_jwt(token)

    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    assert jwt.decode(token, key, algorithms=["ES256"], audience=world.wiki.resource)


def test_an_id_jag_is_good_for_one_redemption(hub: Hub, site: Site) -> None:
    id_jag = hub.id_jag("alice", site)
    first, second = hub.redeem(id_jag, site), hub.redeem(id_jag, site)

    assert first.status_code == 200
    assert (second.status_code, second.json()["error"]) == (REFUSED[site.name], "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example"},
        {"iss": "https://elsewhere.example"},
        {"client_id": "hub"},
        {"resource": "https://elsewhere.example/mcp"},
        {"resource": None},
        {"sub": ""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_id_jag_that_is_not_for_this_server_and_client_is_refused(
    world: World, hub: Hub, site: Site, changes: dict[str, Any]
) -> None:
    answer = hub.redeem(self_made(world, site, **changes), site)

    assert (answer.status_code, answer.json()["error"]) == (REFUSED[site.name], "invalid_grant")


def test_an_id_jag_for_the_other_server_is_refused(world: World, hub: Hub) -> None:
    answer = hub.redeem(hub.id_jag("alice", world.wiki), world.crm)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_grant")


@pytest.mark.parametrize("typ", ["JWT", "at+jwt"])
def test_another_kind_of_token_is_no_id_jag(world: World, hub: Hub, site: Site, typ: str) -> None:
    answer = hub.redeem(self_made(world, site, typ=typ), site)

    assert (answer.status_code, answer.json()["error"]) == (REFUSED[site.name], "invalid_grant")


def test_the_users_own_token_is_no_id_jag(world: World, hub: Hub, site: Site) -> None:
    answer = hub.redeem(world.sign_in("alice"), site)

    assert (answer.status_code, answer.json()["error"]) == (REFUSED[site.name], "invalid_grant")


def test_an_id_jag_of_another_signer_is_refused(world: World, hub: Hub, site: Site) -> None:
    header = jwt.get_unverified_header(hub.id_jag("alice", site))
    claims = unverified(self_made(world, site))
    key = world.hub_private_key.reveal()
    forged = jwt.encode(claims, key, algorithm="ES256", headers=header)
    answer = hub.redeem(forged, site)

    assert (answer.status_code, answer.json()["error"]) == (REFUSED[site.name], "invalid_grant")


def test_an_id_jag_of_an_unknown_key_is_refused(world: World, hub: Hub, site: Site) -> None:
    answer = hub.redeem(KeyRing().sign(unverified(self_made(world, site)), typ=ID_JAG_TYP), site)

    assert (answer.status_code, answer.json()["error"]) == (REFUSED[site.name], "invalid_grant")


async def test_the_wiki_says_so_when_it_cannot_fetch_the_keys(world: World, hub: Hub) -> None:
    wiki, issuer = world.wiki, world.identity_provider.issuer
    nowhere = f"http://127.0.0.1:{world.ports.front}/jwks"
    app = wiki_authorization_server_app(
        wiki, identity_provider=issuer, identity_provider_jwks=nowhere
    )
    form = {
        "grant_type": JWT_BEARER,
        "assertion": hub.id_jag("alice", wiki),
        "client_id": wiki.client_id,
        "client_secret": wiki.client_secret.reveal(),
    }
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=wiki.issuer) as http:
        answer = await http.post("/token", data=form)

    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")


def test_the_hubs_secret_is_asked_for(hub: Hub, site: Site) -> None:
    id_jag = hub.id_jag("alice", site)
    wrong: dict[str, str | None] = {"client_secret": "guess"}
    if site.client_auth == "client_secret_basic":
        answer = hub.http.post(
            site.token_endpoint,
            data={"grant_type": JWT_BEARER, "assertion": id_jag, "client_id": site.client_id},
            auth=(site.client_id, "guess"),
        )
    else:
        answer = hub.redeem(id_jag, site, **wrong)

    assert (answer.status_code, answer.json()["error"]) == (REFUSED[site.name], "invalid_client")
    assert hub.redeem(id_jag, site).status_code == 200  # a wrong secret does not use the ID-JAG up


def test_nobody_else_is_a_client(hub: Hub, site: Site) -> None:
    answer = hub.redeem(hub.id_jag("alice", site), site, client_id="stranger")

    assert answer.json()["error"] == "invalid_client"


def test_a_client_that_registers_itself_at_the_crm_is_still_nobody(world: World) -> None:
    registration = httpx2.post(
        f"{world.crm.issuer}register",
        json={"redirect_uris": ["http://localhost/x"], "token_endpoint_auth_method": "none"},
        trust_env=False,
    ).json()
    form = {"grant_type": JWT_BEARER, "assertion": "x", "client_id": registration["client_id"]}
    answer = httpx2.post(world.crm.token_endpoint, data=form, trust_env=False)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_fastmcp_wants_the_client_id_in_the_form_as_well(world: World, hub: Hub) -> None:
    answer = hub.redeem(hub.id_jag("alice", world.crm), world.crm, client_id=None)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_fastmcp_silently_narrows_a_scope_that_is_too_wide(world: World, hub: Hub) -> None:
    both = "tickets.read tickets.write"
    answer = hub.redeem(hub.id_jag("bob", world.crm), world.crm, scope=both)

    assert (answer.status_code, answer.json()["scope"]) == (200, "tickets.read")


def test_authlib_refuses_a_scope_that_is_too_wide(world: World, hub: Hub) -> None:
    id_jag = self_made(world, world.wiki, scope="other")
    answer = hub.redeem(id_jag, world.wiki, scope="pages.read")

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_an_id_jag_without_any_scope_of_the_wiki_is_refused(world: World, hub: Hub) -> None:
    answer = hub.redeem(self_made(world, world.wiki, scope="other"), world.wiki)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_the_resource_parameter_must_be_the_servers(world: World, hub: Hub, site: Site) -> None:
    answer = hub.redeem(self_made(world, site), site, resource="https://elsewhere.example/mcp")
    expected = {"crm": "invalid_target", "wiki": "invalid_grant"}  # both are met in the field

    assert (answer.status_code, answer.json()["error"]) == (400, expected[site.name])


def test_a_repeated_parameter_is_refused_by_the_wiki(world: World, hub: Hub) -> None:
    form = f"grant_type={JWT_BEARER}&assertion=x&assertion=y"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = hub.http.post(world.wiki.token_endpoint, content=form, headers=headers)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_redemptions_are_counted_by_what_came_of_them(hub: Hub, site: Site) -> None:
    counts_url = f"{site.issuer.rstrip('/')}/counts"
    before = httpx2.get(counts_url, trust_env=False).json()
    id_jag = hub.id_jag("alice", site)
    hub.redeem(id_jag, site)
    hub.redeem(id_jag, site)
    after = httpx2.get(counts_url, trust_env=False).json()

    refused = "invalid_grant"
    assert after["leg2"] == before["leg2"] + 1
    assert after["refusals"][refused] == before["refusals"].get(refused, 0) + 1
    assert hub.world.counts().leg2[site.name] == after["leg2"]
