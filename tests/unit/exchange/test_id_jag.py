"""Leg 1: what is asked of the identity provider, and which ID-JAG goes any further."""

import pytest

from ext_authz.exchange.id_jag import IdJag
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.outbound import Outbound
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import SubjectToken
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.registrations import CREDENTIALS
from tests.doubles.signing_keys import signing_key
from tests.doubles.tokens import ABSENT, claims_of

# ---- the request


async def test_leg_1_asks_for_an_id_jag_for_one_server(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    """RFC 8693 section 2.1, with the draft's profile of it (section 4.3)."""
    await hub.leg_1(alice)

    assert idp.token.calls[0].form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:id-jag",
        "audience": authorization_server.issuer,
        "resource": "https://crm.corp.example/mcp",
        "scope": "tickets.read tickets.write",
        "subject_token": alice.token.reveal(),
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "client_id": "hub",
        "client_secret": CREDENTIALS["HUB_SECRET"],
    }


async def test_leg_1_is_a_form_posted_by_nobody_else(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    """No cookie, although the provider sets one; no proxy, no .netrc, no compression."""
    await hub.leg_1(alice)
    await hub.leg_1(alice)

    call = idp.token.calls[1]
    assert call.method == "POST"
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert call.headers["accept"] == "application/json"
    assert call.headers["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "dpop", "proxy-authorization"} & call.headers.keys()


async def test_leg_1_without_scopes_asks_for_none(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    id_jag = await hub.leg_1(alice, hub.server(scopes=()))

    assert "scope" not in idp.token.calls[0].form
    assert id_jag.scope == ()


async def test_leg_1_sends_every_character_as_itself(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    """Published examples join scopes by `+` and encode that once more."""
    scopes = ("https://x.example/a.b:read&x=1", "50%", "a+b", "a%2Bb")
    resource = "https://crm.corp.example/mcp?tenant=a&x=b+c%20d"

    await hub.leg_1(alice, hub.server(scopes=scopes, resource=resource))

    assert idp.token.calls[0].form["scope"] == " ".join(scopes)
    assert idp.token.calls[0].form["resource"] == resource
    assert idp.token.calls[0].body.count(b"resource=") == 1


async def test_leg_1_says_what_kind_the_user_token_is(
    outbound: Outbound,
    time: MovableTime,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
) -> None:
    provider = idp.registration(subject_token=SubjectToken.ACCESS_TOKEN)
    hub = Hub(provider, authorization_server.registration(), outbound=outbound, time=time)

    await hub.leg_1(hub.user(idp.sign_in()))

    form = idp.token.calls[0].form
    assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:access_token"


# ---- the answer


async def test_a_good_answer_gives_the_id_jag(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    id_jag = await hub.leg_1(alice)

    claims = claims_of(idp.issued[0])
    assert id_jag == IdJag(
        token=id_jag.token,
        jti=claims["jti"],
        scope=("tickets.read", "tickets.write"),
        expires_at=claims["exp"],
    )
    assert id_jag.token.reveal() == idp.issued[0]


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_the_signature_of_an_id_jag_is_the_servers_business(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, algorithm: str
) -> None:
    idp.rotate(signing_key(algorithm))

    assert await hub.token_for(alice)


@pytest.mark.parametrize("token_type", ["N_A", "n_a", "Bearer", "bearer"])
async def test_the_token_type_of_an_id_jag_is_not_applicable(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, token_type: str
) -> None:
    idp.token.dial = Dial(members={"token_type": token_type})

    assert await hub.leg_1(alice)


BAD_ANSWERS: dict[str, dict[str, object]] = {
    "no issued_token_type": {"issued_token_type": ABSENT},
    "an access token": {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"},
    "a list of types": {"issued_token_type": ["urn:ietf:params:oauth:token-type:id-jag"]},
    "a type in capitals": {"issued_token_type": "URN:IETF:PARAMS:OAUTH:TOKEN-TYPE:ID-JAG"},
    "no token_type": {"token_type": ABSENT},
    "another token_type": {"token_type": "DPoP"},
    "a token_type of no text": {"token_type": ["N_A"]},
    "another resource": {"resource": "https://wiki.corp.example/mcp"},
    "two resources": {"resource": ["https://crm.corp.example/mcp", "https://wiki.corp.example"]},
    "no resource at all": {"resource": []},
    "more scope": {"scope": "tickets.read admin"},
    "scope in capitals": {"scope": "TICKETS.READ"},
    "a list of scopes": {"scope": ["tickets.read"]},
    "no access_token": {"access_token": ABSENT},
    "an access_token of no text": {"access_token": 7},
    "an empty access_token": {"access_token": ""},
    "a huge access_token": {"access_token": "a" * (16 * 1024 + 1)},
    "an access_token with a space": {"access_token": "a b"},
    "an access_token with a newline": {"access_token": "a\nb"},
    "an access_token beyond ASCII": {"access_token": "ü"},
}


@pytest.mark.parametrize("members", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_an_answer_that_breaks_the_rules_is_invalid(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    members: dict[str, object],
) -> None:
    idp.token.dial = Dial(members=members)

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.IDP_ANSWER_INVALID
    assert authorization_server.token.calls == []


@pytest.mark.parametrize(
    "members",
    [
        {"resource": "https://crm.corp.example/mcp"},
        {"resource": ["https://crm.corp.example/mcp"]},
        {"expires_in": ABSENT},
        {"expires_in": "soon"},
        {"refresh_token": "must-not-be-kept"},
        {"authorization_details": [{"type": "x"}]},
        {"unheard_of": None},
    ],
    ids=str,
)
async def test_what_else_an_answer_may_say_is_fine(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, members: dict[str, object]
) -> None:
    idp.token.dial = Dial(members=members)

    id_jag = await hub.leg_1(alice)

    assert id_jag.token.reveal() == idp.issued[0]


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("tickets.read", ("tickets.read",)),
        ("tickets.write tickets.read", ("tickets.write", "tickets.read")),
        ("tickets.read tickets.read", ("tickets.read",)),
        (" tickets.read  ", ("tickets.read",)),
        (None, ("tickets.read", "tickets.write")),
        (ABSENT, ("tickets.read", "tickets.write")),
    ],
    ids=str,
)
async def test_the_identity_provider_may_narrow_the_scope(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, scope: object, granted: tuple[str, ...]
) -> None:
    idp.token.dial = Dial(members={"scope": scope})

    assert (await hub.leg_1(alice)).scope == granted


@pytest.mark.parametrize("scope", ["", "  "])
async def test_no_scope_at_all_is_a_denial(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    scope: str,
) -> None:
    idp.token.dial = Dial(members={"scope": scope})

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.SCOPE_DENIED
    assert authorization_server.token.calls == []


# ---- the ID-JAG itself

BAD_CLAIMS: dict[str, dict[str, object]] = {
    "another issuer": {"iss": "https://evil.example"},
    "the issuer in a list": {"iss": ["ISSUER"]},
    "no issuer": {"iss": ABSENT},
    "another server": {"aud": "https://auth.wiki.corp.example"},
    "the server and a slash": {"aud": "SERVER/"},
    "the server and another": {"aud": ["SERVER", "https://auth.wiki.corp.example"]},
    "an empty list of servers": {"aud": []},
    "no server": {"aud": ABSENT},
    "another client": {"client_id": "somebody-else"},
    "our client at the identity provider": {"client_id": "hub"},
    "our client in a list": {"client_id": ["hub-at-server"]},
    "no client": {"client_id": ABSENT},
    "another resource": {"resource": "https://wiki.corp.example/mcp"},
    "the resource and a slash": {"resource": "https://crm.corp.example/mcp/"},
    "the resource and another": {"resource": ["https://crm.corp.example/mcp", "https://x.example"]},
    "no resource": {"resource": ABSENT},
    "no end": {"exp": ABSENT},
    "an end in the past": {"exp": 1},
    "an end in words": {"exp": "1895000000"},
    "an end in fractions": {"exp": 1895000000.5},
    "an end that is true": {"exp": True},
    "a key that we do not have": {"cnf": {"jkt": "x"}},
    "no name": {"jti": ABSENT},
    "an empty name": {"jti": ""},
    "a name that is none": {"jti": 7},
    "a name without end": {"jti": "x" * 257},
}


@pytest.mark.parametrize("claims", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
async def test_an_id_jag_that_is_not_what_we_asked_for_is_never_redeemed(
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    claims: dict[str, object],
) -> None:
    for name, value in claims.items():
        idp.id_jag[name] = _spelled_out(value, idp.issuer, authorization_server.issuer)

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.ID_JAG_INVALID
    assert denied.detail == f"the ID-JAG: {next(iter(claims))}"
    assert authorization_server.token.calls == []


def _spelled_out(value: object, issuer: str, server: str) -> object:
    if isinstance(value, list):
        return [_spelled_out(item, issuer, server) for item in value]
    if isinstance(value, str):
        return value.replace("ISSUER", issuer).replace("SERVER", server)
    return value


async def test_an_id_jag_that_ends_this_very_second_is_never_redeemed(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, time: MovableTime
) -> None:
    idp.id_jag = {"exp": time.now}

    assert (await denial(hub.leg_1(alice))).reason is Reason.ID_JAG_INVALID


@pytest.mark.parametrize(
    "typ", [ABSENT, None, "JWT", "at+jwt", "oauth-id-jag", "OAUTH-ID-JAG+JWT", ["x"]], ids=str
)
async def test_another_kind_of_token_is_no_id_jag(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, typ: object
) -> None:
    idp.id_jag_header = {"typ": typ}

    denied = await denial(hub.leg_1(alice))

    assert denied.reason is Reason.ID_JAG_INVALID
    assert denied.detail == "the ID-JAG: typ"


@pytest.mark.parametrize(
    "token", ["opaque", "a.b.c.d.e", "e30.e30.", "e30.e30.e30=", "bm90LWpzb24.e30.AA"]
)
async def test_what_cannot_be_read_is_no_id_jag(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, token: str
) -> None:
    idp.raw_id_jag = token

    assert (await denial(hub.leg_1(alice))).reason is Reason.ID_JAG_INVALID


async def test_audience_and_resource_may_be_lists_of_one(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    idp.id_jag = {
        "aud": [authorization_server.issuer],
        "resource": ["https://crm.corp.example/mcp"],
    }

    assert await hub.leg_1(alice)


async def test_a_name_of_an_id_jag_may_be_so_long(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    idp.id_jag = {"jti": "x" * 256}

    assert (await hub.leg_1(alice)).jti == "x" * 256


async def test_the_servers_name_for_the_user_may_be_another(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    """Pairwise subjects (section 3.1): equality must not be required."""
    idp.id_jag = {"sub": "pairwise-4711"}

    token = await hub.token_for(alice)

    assert token.subject == "alice"


def test_no_form_of_an_id_jag_shows_it() -> None:
    id_jag = IdJag(token=Secret("canary"), jti="1", scope=(), expires_at=0)

    assert "canary" not in f"{id_jag} {id_jag!r}"
