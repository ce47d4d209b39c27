"""Leg 2: what is asked of the authorization server, and which access token goes any further."""

import base64

import pytest

from ext_authz.exchange.jwt_bearer import DEFAULT_LIFETIME_SECONDS, Grant
from ext_authz.exchange.token_answer import MAX_LIFETIME_SECONDS, MAX_SCOPE_LENGTH, MAX_TOKEN_LENGTH
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.outcome import denial
from tests.doubles.registrations import CREDENTIALS
from tests.doubles.tokens import ABSENT


async def test_leg_2_redeems_the_id_jag_for_the_same_resource_and_the_granted_scope(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    """RFC 7523 section 2.1; `client_id` beside HTTP Basic, for servers that need it there."""
    idp.token.dial = Dial(members={"scope": "tickets.read"})
    await hub.leg_2(await hub.leg_1(alice))

    assert authorization_server.token.calls[0].form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": idp.issued[0],
        "resource": "https://crm.corp.example/mcp",
        "scope": "tickets.read",
        "client_id": "hub-at-server",
    }


async def test_leg_2_is_a_form_posted_by_our_client_there(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    await hub.token_for(alice)

    call = authorization_server.token.calls[0]
    pair = base64.b64encode(f"hub-at-server:{CREDENTIALS['SERVER_SECRET']}".encode()).decode()
    assert call.method == "POST"
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert call.headers["authorization"] == f"Basic {pair}"
    assert "cookie" not in call.headers


async def test_the_scopes_of_leg_2_are_joined_by_a_space(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    await hub.leg_2(await hub.leg_1(alice))

    call = authorization_server.token.calls[0]
    assert call.form["scope"] == "tickets.read tickets.write"
    assert call.body.count(b"resource=") == 1


async def test_leg_2_never_carries_the_user_token(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    await hub.token_for(alice)

    call = authorization_server.token.calls[0]
    assert alice.token.reveal() not in f"{call.headers} {call.body.decode()}"


async def test_leg_2_without_a_granted_scope_asks_for_none(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    server = hub.server(scopes=())

    grant = await hub.leg_2(await hub.leg_1(alice, server), server)

    assert "scope" not in authorization_server.token.calls[0].form
    assert grant.scope == ()


async def test_a_good_answer_gives_the_grant(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    grant = await hub.leg_2(await hub.leg_1(alice))

    assert grant == Grant(
        token=Secret(next(iter(authorization_server.holders))),
        scope=("tickets.read", "tickets.write"),
        lifetime=600,
    )


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
async def test_an_access_token_is_a_bearer_token(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, token_type: str
) -> None:
    authorization_server.token.dial = Dial(members={"token_type": token_type})

    assert await hub.leg_2(await hub.leg_1(alice))


BAD_ANSWERS: dict[str, dict[str, object]] = {
    "no token_type": {"token_type": ABSENT},
    "a key-bound token": {"token_type": "DPoP"},
    "not applicable": {"token_type": "N_A"},
    "a type of no text": {"token_type": ["Bearer"]},
    "a type and a space": {"token_type": "Bearer "},
    "another resource": {"resource": "https://wiki.corp.example/mcp"},
    "the resource and a slash": {"resource": "https://crm.corp.example/mcp/"},
    "two resources": {"resource": ["https://crm.corp.example/mcp", "https://x.example"]},
    "no resource at all": {"resource": None},
    "more scope": {"scope": "tickets.read tickets.write admin"},
    "other scope": {"scope": "admin"},
    "a list of scopes": {"scope": ["tickets.read"]},
    "a number of scopes": {"scope": 0},
}


@pytest.mark.parametrize("members", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_an_answer_that_breaks_the_rules_is_invalid(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    members: dict[str, object],
) -> None:
    authorization_server.token.dial = Dial(members=members)

    assert (await denial(hub.token_for(alice))).reason is Reason.AS_ANSWER_INVALID


async def test_a_server_that_grants_more_than_the_identity_provider_did_is_not_believed(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    idp.token.dial = Dial(members={"scope": "tickets.read"})
    authorization_server.token.dial = Dial(members={"scope": "tickets.read tickets.write"})

    assert (await denial(hub.token_for(alice))).reason is Reason.AS_ANSWER_INVALID


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("tickets.read", ("tickets.read",)),
        (ABSENT, ("tickets.read", "tickets.write")),
        (None, ("tickets.read", "tickets.write")),
    ],
    ids=str,
)
async def test_the_server_may_narrow_the_scope_once_more(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    scope: object,
    granted: tuple[str, ...],
) -> None:
    authorization_server.token.dial = Dial(members={"scope": scope})

    assert (await hub.token_for(alice)).scope == granted


async def test_no_scope_at_all_is_a_denial(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    authorization_server.token.dial = Dial(members={"scope": ""})

    assert (await denial(hub.token_for(alice))).reason is Reason.SCOPE_DENIED


@pytest.mark.parametrize(
    "scope",
    ["größe", "a\nb", "a\tb", 'a"b', "a\\b", "a\0", "\u2028", "a" * (MAX_SCOPE_LENGTH + 1)],
    ids=repr,
)
async def test_a_scope_of_another_alphabet_is_invalid_even_where_none_was_asked(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, scope: str
) -> None:
    """It stands in the audit, where a provider's words must not."""
    authorization_server.token.dial = Dial(members={"scope": scope})

    denied = await denial(hub.token_for(alice, hub.server(scopes=())))

    assert denied.reason is Reason.AS_ANSWER_INVALID


async def test_where_no_scope_was_asked_any_may_be_granted(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    authorization_server.token.dial = Dial(members={"scope": "whatever it:has"})

    token = await hub.token_for(alice, hub.server(scopes=()))

    assert token.scope == ("whatever", "it:has")


@pytest.mark.parametrize(
    "resource", ["https://crm.corp.example/mcp", ["https://crm.corp.example/mcp"]]
)
async def test_a_server_may_repeat_the_resource(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, resource: object
) -> None:
    authorization_server.token.dial = Dial(members={"resource": resource})

    assert await hub.token_for(alice)


# ---- the token


@pytest.mark.parametrize("token", ["a", "A-Za-z0-9._~+/==", "eyJ.eyJ.c2ln", "a" * MAX_TOKEN_LENGTH])
async def test_a_token_that_fits_a_header_is_taken_as_it_is(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, token: str
) -> None:
    authorization_server.token.dial = Dial(members={"access_token": token})

    assert (await hub.token_for(alice)).value.reveal() == token


@pytest.mark.parametrize(
    "token",
    [
        ABSENT,
        None,
        "",
        7,
        ["a"],
        " ",
        "a b",
        "a,b",
        'a"b',
        "a\r\nx-injected: 1",
        "a\n",
        "a\0",
        "a\tb",
        "ü",
        "\u2028",
        "=",
        "a=b",
        "a" * (MAX_TOKEN_LENGTH + 1),
    ],
    ids=repr,
)
async def test_a_token_that_does_not_is_never_let_near_one(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, token: object
) -> None:
    authorization_server.token.dial = Dial(members={"access_token": token})

    assert (await denial(hub.token_for(alice))).reason is Reason.AS_ANSWER_INVALID


# ---- its life


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (1, 1),
        (600, 600),
        ("600", 600),
        (MAX_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS),
        (MAX_LIFETIME_SECONDS + 1, MAX_LIFETIME_SECONDS),
        (10**39, MAX_LIFETIME_SECONDS),
        ("999999999", MAX_LIFETIME_SECONDS),
        (ABSENT, DEFAULT_LIFETIME_SECONDS),
    ],
    ids=str,
)
async def test_a_life_is_read_and_bounded(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    expires_in: object,
    lifetime: int,
) -> None:
    authorization_server.token.dial = Dial(members={"expires_in": expires_in})

    assert (await hub.leg_2(await hub.leg_1(alice))).lifetime == lifetime


@pytest.mark.parametrize(
    "spelling",
    [
        "0",
        "-1",
        "600.0",
        "6e2",
        "1e400",
        "NaN",
        "true",
        "null",
        "[600]",
        '""',
        '"0"',
        '"-600"',
        '" 600"',
        '"600 "',
        '"6e2"',
        '"600.0"',
        '"\u0666\u0660\u0660"',
        '"1000000000"',
        "9" * 41,
    ],
)
async def test_a_life_that_is_no_positive_number_of_seconds_is_invalid(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer, spelling: str
) -> None:
    body = f'{{"access_token": "a", "token_type": "Bearer", "expires_in": {spelling}}}'
    authorization_server.token.dial = Dial(body=body.encode())

    assert (await denial(hub.token_for(alice))).reason is Reason.AS_ANSWER_INVALID


async def test_nothing_keeps_a_refresh_token(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    """The double sends one with each answer."""
    grant = await hub.leg_2(await hub.leg_1(alice))

    revealed = [grant.token.reveal(), *grant.scope]
    assert not any("refresh" in text for text in revealed)
    assert Grant.__slots__ == ("token", "scope", "lifetime")
