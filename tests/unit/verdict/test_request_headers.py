"""Headers that must not reach the MCP server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.secret import Secret
from ext_authz.verdict.request_headers import ALWAYS_REMOVED, headers_to_remove
from tests.unit.trails import USER_TOKEN, facts

TOKEN = Secret(USER_TOKEN)
HARMLESS = {
    ":authority": "mcp.corp.example",
    ":path": "/crm/mcp",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-method": "tools/call",
    "mcp-protocol-version": "2026-07-28",
    "mcp-session-id": "s-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-forwarded-for": "192.0.2.7",
    "x-request-id": "d3171990-8efb-4aaa-8ae1-ee90faf028f5",
}


def removed(headers: dict[str, str]) -> set[str]:
    """What is removed because the client sent it."""
    return set(headers_to_remove(facts(headers=headers), TOKEN)) - set(ALWAYS_REMOVED)


name = st.text("abcdxyz-_.", min_size=1, max_size=8)
any_name = name | st.sampled_from(ALWAYS_REMOVED) | name.map("x-mcp-ext-authz-".__add__)
any_value = st.text() | st.sampled_from([USER_TOKEN, f"Bearer {USER_TOKEN}", f"a={USER_TOKEN};"])


def test_what_servers_take_for_an_identity_is_removed_though_nobody_sent_it() -> None:
    assert list(headers_to_remove(facts(headers={}), TOKEN)) == sorted(ALWAYS_REMOVED)


def test_what_an_mcp_request_needs_is_not_removed() -> None:
    assert removed(HARMLESS) == set()


@given(st.dictionaries(any_name, any_value))
def test_authorization_is_never_removed_and_no_pseudo_header(headers: dict[str, str]) -> None:
    everything = headers | {"authorization": f"Bearer {USER_TOKEN}", ":path": f"/{USER_TOKEN}"}
    found = headers_to_remove(facts(headers=everything), TOKEN)

    assert "authorization" not in found
    assert not any(each.startswith(":") for each in found)
    assert list(found) == sorted(set(found))


@given(st.dictionaries(any_name, any_value))
def test_no_header_with_the_user_token_is_left(headers: dict[str, str]) -> None:
    found = headers_to_remove(facts(headers=headers), TOKEN)

    assert not any(USER_TOKEN in value for name, value in headers.items() if name not in found)


@pytest.mark.parametrize(
    "value",
    [
        USER_TOKEN,
        f"Bearer {USER_TOKEN}",
        f"a=b; session={USER_TOKEN}; c=d",
        f"https://elsewhere.example/?token={USER_TOKEN}",
        USER_TOKEN.replace(".", "%2E"),
        "".join(f"%{ord(character):02x}" for character in USER_TOKEN),
    ],
)
def test_a_header_that_holds_the_user_token_is_removed(value: str) -> None:
    assert removed(HARMLESS | {"referer": value}) == {"referer"}


def test_a_header_with_other_escapes_is_left() -> None:
    assert removed(HARMLESS | {"referer": "https://mcp.corp.example/a%20b"}) == set()


@pytest.mark.parametrize("spelled", [("-", "_"), ("-", ".")])
@pytest.mark.parametrize("header", [each for each in ALWAYS_REMOVED if "-" in each])
def test_a_spelling_that_some_servers_fold_is_removed(
    header: str, spelled: tuple[str, str]
) -> None:
    alias = header.replace(*spelled)

    assert removed({alias: "mallory"}) == {alias}


@pytest.mark.parametrize(
    "header",
    [
        "x-mcp-ext-authz-decision",
        "x-mcp-ext-authz-anything",
        "x_mcp_ext_authz_reason",
        "x-mcp.ext_authz-reason",
        "x-amzn-oidc-identity",
        "x_amzn_oidc_data",
        "x-auth-request-preferred-username",
        "x-goog-iap-jwt-assertion",
        "x-goog-authenticated-user-email",
        "x-ms-client-principal",
        "x-ms-client-principal-name",
        "x-ms-token-aad-id-token",
    ],
)
def test_a_header_of_ours_or_of_another_gateways_is_removed(header: str) -> None:
    assert removed({header: "mallory"}) == {header}


@pytest.mark.parametrize("header", ["x-mcp-ext-authzed", "cookies", "my-cookie", "authorization2"])
def test_a_name_that_is_only_alike_is_not(header: str) -> None:
    assert removed({header: "x"}) == set()
