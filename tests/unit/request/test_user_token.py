"""The user token: one Bearer JWT in `Authorization`, and no other place or form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.reasons import Reason
from ext_authz.request.facts import RequestFacts
from ext_authz.request.user_token import MAX_TOKEN_LENGTH, user_token
from ext_authz.secret import Secret
from tests.unit.stage_outcomes import denial, outcome
from tests.unit.trails import facts

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_0"


def request_with(authorization: str, **changes: object) -> RequestFacts:
    return facts(headers={"authorization": authorization}, **changes)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_a_bearer_jwt_is_the_user_token_in_any_case_of_the_scheme(scheme: str) -> None:
    assert user_token(request_with(f"{scheme} {JWT}")).reveal() == JWT


def test_without_the_header_it_is_missing() -> None:
    assert outcome(user_token, facts(headers={})) is Reason.TOKEN_MISSING


def test_an_empty_header_is_a_missing_token() -> None:
    assert outcome(user_token, request_with("")) is Reason.TOKEN_MISSING


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"query": f"access_token={JWT}"},
        {"body": f"access_token={JWT}".encode()},
        {"headers": {"x-access-token": JWT, "cookie": JWT, "proxy-authorization": f"Bearer {JWT}"}},
        {"headers": {"x_authorization": f"Bearer {JWT}", "author.ization": f"Bearer {JWT}"}},
        {"path": f"/crm/mcp/{JWT}"},
    ],
)
def test_a_token_in_another_place_is_no_user_token(elsewhere: dict[str, object]) -> None:
    request = facts(**({"headers": {}} | elsewhere))

    assert outcome(user_token, request) is Reason.TOKEN_MISSING


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        JWT,
        f"Bearer{JWT}",
        f"Bearer  {JWT}",
        f"Bearer\t{JWT}",
        f"Bearer\xa0{JWT}",
        f" Bearer {JWT}",
        f"Bearer {JWT} ",
        f"Bearer {JWT}\n",
        f"Bearer {JWT} {JWT}",
        f"Bearer {JWT},Bearer {JWT}",
        f"Bearer {JWT}, {JWT}",
        f"Bearer {JWT},",
        f"Bearer ,{JWT}",
        f"Basic x,Bearer {JWT}",
        f"Basic {JWT}",
        f"DPoP {JWT}",
        f"Bearer token={JWT}",
        f'Bearer "{JWT}"',
        f"Bearer {JWT}=",
        f"Bearer {JWT}.x",
        f"Bearer {JWT}.x.y",
        "Bearer a.b",
        "Bearer a",
        "Bearer ..",
        "Bearer a..c",
        "Bearer a.b.",
        "Bearer a.b.c+/",
        "Bearer a.b.ç",
        "Bearer a.b.c\0",
        "Bearer a.b.%63",
        "ᴮearer a.b.c",
    ],
)
def test_any_other_form_is_malformed(header: str) -> None:
    assert outcome(user_token, request_with(header)) is Reason.TOKEN_MALFORMED


def test_a_header_as_long_as_allowed_is_read() -> None:
    header = "Bearer a.b.".ljust(MAX_TOKEN_LENGTH, "c")

    assert user_token(request_with(header)).reveal() == header.removeprefix("Bearer ")


@pytest.mark.parametrize("length", [MAX_TOKEN_LENGTH + 1, 1_000_000])
def test_a_longer_header_is_malformed(length: int) -> None:
    header = "Bearer a.b.".ljust(length, "c")

    assert outcome(user_token, request_with(header)) is Reason.TOKEN_MALFORMED


ENCODED = "".join(f"%{ord(character):02x}" for character in JWT)


@pytest.mark.parametrize(
    "url",
    [
        {"query": f"access_token={JWT}"},
        {"query": f"a&{JWT}&b"},
        {"query": f"access_token={ENCODED}"},
        {"query": JWT.replace(".", "%2E")},
        {"path": f"/crm/{JWT}/mcp"},
        {"path": f"/crm/{ENCODED}"},
        {"host": f"{JWT}.corp.example".lower()},
    ],
)
def test_a_token_that_stands_in_the_url_too_is_refused(url: dict[str, str]) -> None:
    denied = denial(user_token, request_with(f"Bearer {JWT}", **url))

    assert denied.reason is Reason.TOKEN_MALFORMED
    assert JWT not in denied.detail


@given(st.text() | st.text("Bearer .,abc-_=", max_size=30).map("Bearer a.b".__add__))
def test_any_header_is_a_token_or_denied(header: str) -> None:
    token = outcome(user_token, request_with(header))

    if isinstance(token, Secret):
        assert header[7:] == token.reveal()
        assert header.isascii()
        assert header.count(".") == 2
    else:
        assert token in {Reason.TOKEN_MISSING, Reason.TOKEN_MALFORMED}
