"""What a correctly signed token must say, claim by claim."""

import json
from collections.abc import Callable

import pytest

from ext_authz.identity.claims import LEEWAY_SECONDS
from ext_authz.identity.verify import Users
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import SubjectToken
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.tokens import ABSENT, compact, header_of, id_token_claims

DAY = 24 * 3600


@pytest.fixture
def access_token_users(users_of: Callable[..., Users], idp: IdentityProvider) -> Users:
    """Users who sign in with access tokens."""
    return users_of(idp.registration(subject_token=SubjectToken.ACCESS_TOKEN))


# ---- D5: one kind of token only


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt"])
async def test_an_id_token_has_no_typ_or_the_general_one(
    users: Users, idp: IdentityProvider, typ: object
) -> None:
    user = await users.verify(Secret(idp.sign_in({"typ": typ})))

    assert user.subject == "alice"


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_an_access_token_may_have_its_own_typ_too(
    access_token_users: Users, idp: IdentityProvider, typ: object
) -> None:
    user = await access_token_users.verify(Secret(idp.sign_in({"typ": typ})))

    assert user.subject == "alice"


OTHER_KINDS = [
    "oauth-id-jag+jwt",
    "logout+jwt",
    "secevent+jwt",
    "client-authentication+jwt",
    "dpop+jwt",
    "token-introspection+jwt",
    "JWE",
    "AT+JWT",
    "",
    None,
    7,
    True,
    ["JWT"],
    {"typ": "JWT"},
]


@pytest.mark.parametrize("typ", [*OTHER_KINDS, "at+jwt", "application/at+jwt"], ids=str)
async def test_another_kind_of_token_is_no_id_token(
    users: Users, idp: IdentityProvider, typ: object
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in({"typ": typ}))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == "typ is not that of an id_token"


@pytest.mark.parametrize("typ", OTHER_KINDS, ids=str)
async def test_another_kind_of_token_is_no_access_token(
    access_token_users: Users, idp: IdentityProvider, typ: object
) -> None:
    denied = await denial(access_token_users.verify(Secret(idp.sign_in({"typ": typ}))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == "typ is not that of an access_token"


async def test_a_logout_token_without_its_typ_is_no_id_token(
    users: Users, idp: IdentityProvider
) -> None:
    events: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}

    denied = await denial(users.verify(Secret(idp.sign_in(events=events))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == "a logout or security event token"


async def test_keycloaks_own_mark_of_the_kind_is_heeded(
    users: Users, access_token_users: Users, idp: IdentityProvider
) -> None:
    id_token, access_token = Secret(idp.sign_in(typ="ID")), Secret(idp.sign_in(typ="Bearer"))

    assert (await users.verify(id_token)).subject == "alice"
    assert (await access_token_users.verify(access_token)).subject == "alice"
    for denied in (
        await denial(users.verify(access_token)),
        await denial(access_token_users.verify(id_token)),
    ):
        assert denied.reason is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("typ", ["Refresh", "Offline", "Logout", "", None, ["ID"]], ids=str)
async def test_keycloaks_other_kinds_are_refused(
    users: Users, idp: IdentityProvider, typ: object
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(typ=typ))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("claim", ["nonce", "at_hash", "c_hash"])
async def test_an_id_token_is_no_access_token(
    access_token_users: Users, idp: IdentityProvider, claim: str
) -> None:
    denied = await denial(access_token_users.verify(Secret(idp.sign_in(**{claim: "x"}))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == "an ID token where an access token is expected"


# ---- D6: audiences


@pytest.mark.parametrize(
    ("aud", "azp"),
    [
        ("hub", ABSENT),
        (["hub"], ABSENT),
        (["hub", "desktop"], ABSENT),
        (["hub", "desktop"], "desktop"),
        ("hub", "hub"),
        ("hub", "desktop"),
    ],
)
async def test_an_id_token_is_for_us_alone(
    users_of: Callable[..., Users], idp: IdentityProvider, aud: object, azp: object
) -> None:
    users = users_of(idp.registration(audience=("hub", "desktop")))

    user = await users.verify(Secret(idp.sign_in(aud=aud, azp=azp)))

    assert user.subject == "alice"


@pytest.mark.parametrize(
    "aud",
    [
        "other",
        "Hub",
        "hub/",
        "hub ",
        "hu",
        "hubs",
        "https://hub",
        "",
        [],
        [""],
        ["other"],
        ["hub", "other"],
        ["hub", None],
        [["hub"]],
        {"hub": "hub"},
        7,
        True,
    ],
    ids=str,
)
async def test_an_id_token_for_anybody_else_is_refused(
    users: Users, idp: IdentityProvider, aud: object
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(aud=aud))))

    assert denied.reason is Reason.TOKEN_AUDIENCE_WRONG


@pytest.mark.parametrize("azp", ["other", "Hub", "hub/"])
async def test_an_id_token_that_was_issued_to_somebody_else_is_refused(
    users: Users, idp: IdentityProvider, azp: str
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(azp=azp))))

    assert denied.reason is Reason.TOKEN_AUDIENCE_WRONG


@pytest.mark.parametrize("aud", ["hub", ["hub"], ["other", "hub"]], ids=str)
async def test_an_access_token_may_be_for_others_too(
    access_token_users: Users, idp: IdentityProvider, aud: object
) -> None:
    user = await access_token_users.verify(Secret(idp.sign_in(aud=aud, azp="claude")))

    assert user.agent == "claude"


@pytest.mark.parametrize("aud", ["other", [], ["other"], ["hub/"], ["hub", 7], None], ids=str)
async def test_an_access_token_for_others_only_is_refused(
    access_token_users: Users, idp: IdentityProvider, aud: object
) -> None:
    denied = await denial(access_token_users.verify(Secret(idp.sign_in(aud=aud))))

    assert denied.reason in {Reason.TOKEN_AUDIENCE_WRONG, Reason.TOKEN_CLAIMS_INVALID}


# ---- D8: dates


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat"])
@pytest.mark.parametrize("value", [ABSENT, None], ids=["absent", "null"])
async def test_a_required_claim_must_be_there(
    users: Users, idp: IdentityProvider, claim: str, value: object
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(**{claim: value}))))

    assert denied.reason in {Reason.TOKEN_CLAIMS_INVALID, Reason.TOKEN_ISSUER_UNKNOWN}


NO_DATES = [
    '"1795000000"',
    "true",
    "false",
    "0",
    "-1",
    "1795000000.0",
    "1.795e9",
    "[]",
    "{}",
    "[1795000000]",
    '""',
    str(2**40),
    "9" * 40,
]


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("spelling", NO_DATES)
async def test_a_date_is_a_whole_number_of_seconds(
    users: Users, idp: IdentityProvider, time: MovableTime, claim: str, spelling: str
) -> None:
    claims = json.dumps(id_token_claims(idp.issuer, time.now, **{claim: "DATE"}))
    payload = claims.replace('"DATE"', spelling).encode()

    denied = await denial(users.verify(Secret(compact(header_of(idp.key), payload, idp.key.sign))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == f"{claim} is missing or not a whole number of seconds"


async def test_a_date_of_four_hundred_digits_is_malformed(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    claims = json.dumps(id_token_claims(idp.issuer, time.now, exp="DATE"))
    payload = claims.replace('"DATE"', "9" * 400).encode()

    denied = await denial(users.verify(Secret(compact(header_of(idp.key), payload, idp.key.sign))))

    assert denied.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("life", [0, -1, -DAY, 7 * DAY + 1])
async def test_a_life_is_between_one_second_and_a_week(
    users: Users, idp: IdentityProvider, time: MovableTime, life: int
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(exp=time.now + life))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == "exp is not within a sane life after iat"


@pytest.mark.parametrize("life", [1, 7 * DAY])
async def test_a_life_of_one_second_or_a_week_is_fine(
    users: Users, idp: IdentityProvider, time: MovableTime, life: int
) -> None:
    user = await users.verify(Secret(idp.sign_in(exp=time.now + life)))

    assert user.expires_at == time.now + life


async def test_a_token_is_good_until_the_leeway_after_its_end(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in(exp=time.now + 60))
    time.passes(60 + LEEWAY_SECONDS - 1)

    assert (await users.verify(token)).subject == "alice"


async def test_a_token_is_expired_when_the_leeway_is_over(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in(exp=time.now + 60))
    time.passes(60 + LEEWAY_SECONDS)

    assert (await denial(users.verify(token))).reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_a_token_from_the_near_future_is_good(
    users: Users, idp: IdentityProvider, time: MovableTime, claim: str
) -> None:
    token = idp.sign_in(**{claim: time.now + LEEWAY_SECONDS})

    assert (await users.verify(Secret(token))).subject == "alice"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_a_token_from_the_far_future_is_refused(
    users: Users, idp: IdentityProvider, time: MovableTime, claim: str
) -> None:
    token = idp.sign_in(**{claim: time.now + LEEWAY_SECONDS + 1})

    denied = await denial(users.verify(Secret(token)))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == f"{claim} is in the future"


async def test_a_token_that_began_to_be_good_long_ago_is_good(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = idp.sign_in(nbf=time.now - DAY)

    assert (await users.verify(Secret(token))).subject == "alice"


# ---- D9: subjects, and the other texts that make up an identity


@pytest.mark.parametrize("sub", ["a", "00u1", "Größe", "山田", "alice@corp.example", "x" * 255])
async def test_a_subject_is_taken_to_the_letter(
    users: Users, idp: IdentityProvider, sub: str
) -> None:
    user = await users.verify(Secret(idp.sign_in(sub=sub)))

    assert user.subject == sub


UNUSABLE_TEXTS = {
    "empty": "",
    "too long": "x" * 256,
    "NUL": "alice\0",
    "newline": "alice\nbob",
    "escape": "\x1b[31malice",
    "delete": "alice\x7f",
    "C1 control": "alice\x85",
    "right-to-left override": "\u202ealice",
    "zero-width space": "ali\u200bce",
    "byte order mark": "\ufeffalice",
    "private use": "alice\ue000",
    "unassigned": "alice\u0378",
    "not a text": 7,
    "boolean": True,
    "list": ["alice"],
    "object": {"sub": "alice"},
}


@pytest.mark.parametrize("claim", ["sub", "sid", "acr", "azp", "client_id"])
@pytest.mark.parametrize("value", UNUSABLE_TEXTS.values(), ids=UNUSABLE_TEXTS)
async def test_a_text_of_another_shape_is_refused(
    users: Users, idp: IdentityProvider, claim: str, value: object
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(**{claim: value}))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail.startswith(claim)


async def test_a_subject_with_a_second_spelling_is_refused(
    users: Users, idp: IdentityProvider
) -> None:
    """U+0061 U+0308 looks like U+00E4: two byte strings, one name to whoever reads the audit."""
    denied = await denial(users.verify(Secret(idp.sign_in(sub="ma\u0308x"))))

    assert denied.reason is Reason.TOKEN_CLAIMS_INVALID
    assert denied.detail == "sub has a second spelling"


async def test_a_lone_surrogate_in_a_subject_is_malformed(
    users: Users, idp: IdentityProvider
) -> None:
    denied = await denial(users.verify(Secret(idp.sign_in(sub="alice\ud800"))))

    assert denied.reason is Reason.TOKEN_MALFORMED
    assert denied.detail == "lone surrogate"


async def test_claims_of_others_are_left_alone(users: Users, idp: IdentityProvider) -> None:
    token = idp.sign_in(email=None, groups=["a", 1], amr={"x": [True]}, name="\u202e")

    assert (await users.verify(Secret(token))).subject == "alice"


async def test_a_denial_names_the_rule_and_never_the_value(
    users: Users, idp: IdentityProvider
) -> None:
    denials: list[Denied] = [
        await denial(users.verify(Secret(idp.sign_in(**{claim: "canary\0"}))))
        for claim in ("sub", "sid", "azp", "exp", "typ", "aud")
    ]

    assert all("canary" not in denied.detail for denied in denials)
