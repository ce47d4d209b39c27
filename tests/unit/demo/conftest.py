"""One running world, and the hub's two legs driven by hand."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import jwt
import pytest

from ext_authz.demo.oauth_endpoint import ID_JAG, ID_TOKEN, JWT_BEARER, TOKEN_EXCHANGE
from ext_authz.demo.site import Site
from ext_authz.demo.world import World

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Speaks both legs over HTTP. Keyword changes replace form fields; None leaves one out."""

    world: World
    http: httpx2.Client

    def assertion(self, **claims: object) -> str:
        now = int(time.time())
        ours = {
            "iss": "hub",
            "sub": "hub",
            "aud": self.world.identity_provider.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": uuid.uuid4().hex,
        }
        key = self.world.hub_private_key.reveal()
        headers = {"typ": "client-authentication+jwt"}
        return jwt.encode({**ours, **claims}, key, algorithm="ES256", headers=headers)

    def exchange(self, id_token: str, site: Site, **changes: str | None) -> httpx2.Response:
        form: dict[str, str | None] = {
            "grant_type": TOKEN_EXCHANGE,
            "requested_token_type": ID_JAG,
            "audience": site.issuer,
            "resource": site.resource,
            "scope": " ".join(site.scopes),
            "subject_token": id_token,
            "subject_token_type": ID_TOKEN,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
        }
        return self._post(self.world.identity_provider.token_endpoint, form | changes)

    def redeem(self, id_jag: str, site: Site, **changes: str | None) -> httpx2.Response:
        form: dict[str, str | None] = {
            "grant_type": JWT_BEARER,
            "assertion": id_jag,
            "client_id": site.client_id,
            "resource": site.resource,
        }
        secret = site.client_secret.reveal()
        if site.client_auth == "client_secret_post":
            return self._post(site.token_endpoint, form | {"client_secret": secret} | changes)
        basic = httpx2.BasicAuth(site.client_id, secret)
        return self._post(site.token_endpoint, form | changes, basic)

    def id_jag(self, user: str, site: Site) -> str:
        return str(self.exchange(self.world.sign_in(user), site).json()["access_token"])

    def access_token(self, user: str, site: Site) -> str:
        return str(self.redeem(self.id_jag(user, site), site).json()["access_token"])

    def _post(
        self, url: str, form: dict[str, str | None], auth: httpx2.Auth | None = None
    ) -> httpx2.Response:
        data = {name: value for name, value in form.items() if value is not None}
        return self.http.post(url, data=data, auth=auth or httpx2.Auth())


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World.in_thread() as running:
        yield running


@pytest.fixture(scope="session")
def hub(world: World) -> Iterator[Hub]:
    with httpx2.Client(trust_env=False) as http:
        yield Hub(world=world, http=http)


@pytest.fixture(params=["crm", "wiki"])
def site(request: pytest.FixtureRequest, world: World) -> Site:
    """Each of the two MCP servers in turn."""
    found = {"crm": world.crm, "wiki": world.wiki}[request.param]
    assert isinstance(found, Site)
    return found
