"""No two that differ in anything share a key: what one could read there is the other's token."""

import string
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_authz.exchange.cache_key import cache_key
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.secret import Secret
from ext_authz.settings.settings import (
    AuthorizationServer,
    IdentityProvider,
    Match,
    McpServer,
    OAuthClient,
    Quota,
    SubjectToken,
)
from tests.doubles.registrations import HUB, HUB_AT_SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that a key must tell apart."""

    issuer: str = "https://idp.corp.example"
    subject: str = "alice"
    session: str | None = "session-1"
    acr: str | None = "mfa"
    agent: str | None = "claude"
    hub: OAuthClient = HUB
    hub_at_server: OAuthClient = HUB_AT_SERVER
    server_issuer: str = "https://auth.crm.corp.example"
    resource: str = "https://crm.corp.example/mcp"
    scopes: tuple[str, ...] = ("read", "write")
    name: str = "crm"
    url: str = "https://mcp.corp.example/crm"
    match: Match | None = None
    audience: tuple[str, ...] = ("hub",)
    subject_token: SubjectToken = SubjectToken.ID_TOKEN
    algorithms: tuple[str, ...] = ("ES256",)
    token: str = "user.token.1"
    expires_at: int = 1_795_000_000

    @property
    def key(self) -> str:
        return cache_key(self._user(), self._server())

    def _user(self) -> VerifiedUser:
        return VerifiedUser(
            provider=IdentityProvider(
                issuer=self.issuer,
                audience=self.audience,
                subject_token=self.subject_token,
                algorithms=self.algorithms,
                client=self.hub,
                token_endpoint=None,
                jwks_uri=None,
                sign_in_scopes=(),
            ),
            issuer=self.issuer,
            subject=self.subject,
            session=self.session,
            acr=self.acr,
            agent=self.agent,
            expires_at=self.expires_at,
            token=Secret(self.token),
        )

    def _server(self) -> McpServer:
        return McpServer(
            name=self.name,
            url=self.url,
            resource=self.resource,
            authorization_server=AuthorizationServer(
                issuer=self.server_issuer, client=self.hub_at_server, token_endpoint=None
            ),
            scopes=self.scopes,
            match=self.match,
        )


def changed(**changes: Any) -> Parts:
    return replace(Parts(), **changes)


CHANGES: dict[str, dict[str, Any]] = {
    "issuer": {"issuer": "https://idp.other.example"},
    "subject": {"subject": "bob"},
    "subject's case": {"subject": "Alice"},
    "session": {"session": "session-2"},
    "no session": {"session": None},
    "an empty session": {"session": ""},
    "acr": {"acr": "pwd"},
    "no acr": {"acr": None},
    "agent": {"agent": "cursor"},
    "no agent": {"agent": None},
    "our id at the identity provider": {"hub": replace(HUB, id="hub-2")},
    "our id at the server": {"hub_at_server": replace(HUB_AT_SERVER, id="hub-at-server-2")},
    "our credential's place": {
        "hub": replace(HUB, credential=replace(HUB.credential, env="OTHER"))
    },
    "server's issuer": {"server_issuer": "https://auth.wiki.corp.example"},
    "resource": {"resource": "https://wiki.corp.example/mcp"},
    "resource's slash": {"resource": "https://crm.corp.example/mcp/"},
    "fewer scopes": {"scopes": ("read",)},
    "more scopes": {"scopes": ("read", "write", "admin")},
    "joined scopes": {"scopes": ("read write",)},
    "no scopes": {"scopes": ()},
    "server's name": {"name": "crm-2"},
    "server's url": {"url": "https://mcp.corp.example/crm-2"},
    "server's match": {"match": Match(host="mcp.corp.example", path_prefix="/crm")},
    "audience": {"audience": ("hub", "desktop")},
    "kind of user token": {"subject_token": SubjectToken.ACCESS_TOKEN},
    "algorithms": {"algorithms": ("RS256",)},
    "session for acr": {"session": "mfa", "acr": "session-1"},
    "session moved to acr": {"session": None, "acr": "session-1"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_makes_another_key(change: dict[str, Any]) -> None:
    assert changed(**change).key != Parts().key


@pytest.mark.parametrize(
    "change", [{"token": "user.token.2"}, {"expires_at": 1_795_003_600}], ids=["token", "its end"]
)
def test_a_refreshed_user_token_finds_the_same_key(change: dict[str, Any]) -> None:
    assert changed(**change).key == Parts().key


@pytest.mark.parametrize("part", ["issuer", "subject", "server_issuer", "resource"])
def test_an_empty_part_forms_no_key(part: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        _ = changed(**{part: ""}).key


@pytest.mark.parametrize("part", ["hub", "hub_at_server"])
def test_an_empty_client_id_forms_no_key(part: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        _ = changed(**{part: replace(HUB, id="")}).key


def test_a_key_shows_nothing_of_its_parts() -> None:
    assert len(Parts().key) == 64
    assert set(Parts().key) <= set(string.hexdigits.lower())


# Few characters, and those that separate: parts run into one another if they can at all.
tricky = st.text(alphabet="a:=|,'\0 \x01\x02", min_size=1, max_size=4)
maybe = st.none() | st.text(alphabet="a:=\0", max_size=3)
parts = st.builds(
    Parts,
    issuer=tricky,
    subject=tricky,
    session=maybe,
    acr=maybe,
    agent=maybe,
    server_issuer=tricky,
    resource=tricky,
    name=tricky,
    url=tricky,
    scopes=st.lists(tricky, max_size=3, unique=True).map(tuple),
)


@given(parts, parts)
@settings(deadline=None, max_examples=200)
def test_keys_are_equal_only_where_everything_is(one: Parts, other: Parts) -> None:
    assert (one.key == other.key) is (one == other)


@given(st.lists(tricky, min_size=5, max_size=5), st.permutations(range(5)))
@settings(deadline=None, max_examples=150)
def test_no_part_can_take_anothers_place(texts: list[str], order: list[int]) -> None:
    names = ("issuer", "subject", "server_issuer", "resource", "session")
    one = changed(**dict(zip(names, texts, strict=True)))
    other = changed(**dict(zip(names, (texts[place] for place in order), strict=True)))

    assert (one.key == other.key) is (one == other)


@given(tricky, tricky, tricky, st.integers(0, 4))
@settings(deadline=None, max_examples=150)
def test_no_delimiter_moves_a_character_from_one_part_to_the_next(
    first: str, middle: str, last: str, cut: int
) -> None:
    one = Parts(issuer=first + middle[:cut], subject=middle[cut:] + last)
    other = Parts(issuer=first + middle, subject=last)

    assert (one.key == other.key) is (one == other)


def test_a_quota_that_is_set_costs_nobody_their_token() -> None:
    """Warnings about a quota are no reason to use more of it."""
    user, server = Parts()._user(), Parts()._server()
    provider = replace(user.provider, quota=Quota(exchanges=250, days=30))

    assert cache_key(replace(user, provider=provider), server) == cache_key(user, server)
