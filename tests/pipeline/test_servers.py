"""Which MCP server a request is for, and where its clients are told to sign in."""

from typing import Any

import pytest

from ext_authz.reasons import Reason
from tests.pipeline.gateway import Gateway

METADATA = "/.well-known/oauth-protected-resource"


def spelled_out(gateway: Gateway, **changes: str) -> dict[str, str]:
    """A route that brings a server of its own."""
    return {
        "mcp.url": "https://mcp.corp.example/forge",
        "mcp.resource": "https://forge.corp.example/mcp",
        "mcp.authorization_server": gateway.authorization_server.issuer,
        "mcp.scopes": "repos.read repos.write",
        **changes,
    }


async def test_a_route_names_a_server_of_the_settings(gateway: Gateway) -> None:
    answer = await gateway.call(extensions={"mcp.server": "wiki"})

    assert answer.is_allow
    assert gateway.idp.token.calls[0].form["resource"] == "https://wiki.corp.example/mcp"


async def test_what_a_route_names_counts_whatever_the_client_says(gateway: Gateway) -> None:
    """Host, path and forwarded headers are the client's words."""
    headers = {
        "x-forwarded-host": "mcp.corp.example",
        "x-forwarded-path": "/crm",
        "mcp.server": "crm",
        "x-mcp-server": "crm",
    }

    await gateway.call(
        extensions={"mcp.server": "wiki"},
        host="mcp.corp.example",
        path="/crm?mcp.server=crm",
        headers=headers,
    )

    assert gateway.idp.token.calls[0].form["resource"] == "https://wiki.corp.example/mcp"


async def test_a_route_may_spell_a_server_out(gateway: Gateway) -> None:
    answer = await gateway.call(extensions=spelled_out(gateway))

    form = gateway.idp.token.calls[0].form
    assert answer.is_allow
    assert form["resource"] == "https://forge.corp.example/mcp"
    assert form["scope"] == "repos.read repos.write"
    assert answer.metadata["server"] == "https://forge.corp.example/mcp"


async def test_a_route_may_spell_a_server_out_without_scopes(gateway: Gateway) -> None:
    extensions = spelled_out(gateway)
    del extensions["mcp.scopes"]

    answer = await gateway.call(extensions=extensions)

    assert answer.is_allow
    assert "scope" not in gateway.idp.token.calls[0].form


async def test_extensions_for_others_are_left_alone(gateway: Gateway) -> None:
    answer = await gateway.call(extensions={"mcp.server": "crm", "team": "sales"})

    assert answer.is_allow


@pytest.mark.parametrize(
    "extensions",
    [
        {"mcp.server": "nobody"},
        {"mcp.server": ""},
        {"mcp.server": "CRM"},
        {"mcp.server": "crm", "mcp.resource": "https://wiki.corp.example/mcp"},
        {"mcp.resource": "https://wiki.corp.example/mcp"},
        {"mcp.sever": "crm"},
        {"mcp.": "crm"},
    ],
    ids=str,
)
async def test_a_route_that_names_no_server_leads_nowhere(
    gateway: Gateway, extensions: dict[str, str]
) -> None:
    """Not even where host and path would match."""
    answer = await gateway.call(extensions=extensions, host="mcp.corp.example", path="/crm")

    assert answer.reason == Reason.SERVER_UNKNOWN
    assert gateway.idp.token.calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"mcp.authorization_server": "https://evil.example"},
        {"mcp.url": "http://mcp.corp.example/forge"},
        {"mcp.url": "https://mcp.corp.example/forge#x"},
        {"mcp.resource": "forge"},
        {"mcp.extra": "x"},
    ],
    ids=str,
)
async def test_a_server_that_cannot_be_is_none(gateway: Gateway, changes: dict[str, str]) -> None:
    answer = await gateway.call(extensions=spelled_out(gateway, **changes))

    assert answer.reason == Reason.SERVER_UNKNOWN


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("mcp.corp.example", "/wiki"),
        ("mcp.corp.example", "/wiki/mcp"),
        ("MCP.corp.example:443", "/wiki/mcp?x=/crm"),
    ],
)
async def test_without_a_route_that_names_one_host_and_path_match(
    gateway: Gateway, host: str, path: str
) -> None:
    answer = await gateway.call(extensions={}, host=host, path=path)

    assert answer.is_allow
    assert answer.metadata["server"] == "wiki"


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("mcp.corp.example", "/"),
        ("mcp.corp.example", "/wikis"),
        ("mcp.corp.example", "/Wiki"),
        ("mcp.corp.example", "//wiki/mcp"),
        ("mcp.corp.example", "/crm/../wiki/mcp"),
        ("mcp.corp.example", "/crm/%2e%2e/wiki"),
        ("mcp.corp.example", "/wiki;x=1/mcp"),
        ("mcp.corp.example", "/wiki%2fmcp"),
        ("mcp.corp.example", "/x\\wiki"),
        ("other.corp.example", "/wiki"),
        ("mcp.corp.example.evil.example", "/wiki"),
        ("", "/wiki"),
    ],
)
async def test_what_two_routers_could_read_differently_matches_nothing(
    gateway: Gateway, host: str, path: str
) -> None:
    answer = await gateway.call(extensions={}, host=host, path=path)

    assert answer.reason == Reason.SERVER_UNKNOWN


# ---- protected resource metadata


def document(gateway: Gateway, name: str) -> dict[str, Any]:
    return {
        "resource": f"https://mcp.corp.example/{name}",
        "resource_name": name,
        "authorization_servers": [gateway.idp.issuer],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["openid"],
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("extensions", [{"mcp.server": "wiki"}, {}], ids=["route", "path"])
async def test_metadata_leads_to_the_enterprise_sign_in(
    gateway: Gateway, extensions: dict[str, str], method: str
) -> None:
    answer = await gateway.call(
        token=None, message=None, method=method, path=f"{METADATA}/wiki", extensions=extensions
    )

    assert answer.status == 200
    assert answer.body == document(gateway, "wiki")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-mcp-ext-authz-decision"] == gateway.records()[0]["decision_id"]


async def test_metadata_reaches_the_client_and_never_the_server(gateway: Gateway) -> None:
    """To Envoy it is a denial, with status 200; the interlock would stop anything else."""
    answer = await gateway.call(token=None, message=None, method="GET", path=f"{METADATA}/crm")

    assert answer.response.status.code != 0
    assert answer.metadata["verdict"] == "document"


async def test_metadata_is_remembered_too(gateway: Gateway) -> None:
    answer = await gateway.call(token=None, message=None, method="GET", path=f"{METADATA}/crm")

    (record,) = gateway.records()
    assert (record["verdict"], record["decision_id"]) == ("document", answer.decision_id)


async def test_the_route_says_whose_metadata_it_is(gateway: Gateway) -> None:
    answer = await gateway.call(
        token=None,
        message=None,
        method="GET",
        path=f"{METADATA}/crm",
        extensions={"mcp.server": "wiki"},
    )

    assert answer.body == document(gateway, "wiki")


async def test_metadata_of_a_server_that_is_spelled_out(gateway: Gateway) -> None:
    answer = await gateway.call(
        token=None,
        message=None,
        method="GET",
        path=f"{METADATA}/forge",
        extensions=spelled_out(gateway),
    )

    assert answer.body["resource"] == "https://mcp.corp.example/forge"


@pytest.mark.parametrize("path", ["/nobody", "", "/", "/crm/mcp", "/../crm"])
async def test_nobodys_metadata_is_not_found_out_about(gateway: Gateway, path: str) -> None:
    answer = await gateway.call(
        token=None, message=None, method="GET", path=METADATA + path, extensions={}
    )

    assert answer.reason == Reason.SERVER_UNKNOWN


async def test_a_call_posted_to_the_metadata_is_a_call_like_any_other(gateway: Gateway) -> None:
    answer = await gateway.call(token=None, path=f"{METADATA}/crm")

    assert answer.reason == Reason.TOKEN_MISSING


async def test_a_challenge_leads_to_the_metadata_and_that_to_the_identity_provider(
    gateway: Gateway,
) -> None:
    challenged = await gateway.call(token=None)
    url = challenged.headers["www-authenticate"].partition('resource_metadata="')[2].rstrip('"')
    path = url.removeprefix("https://mcp.corp.example")
    answer = await gateway.call(token=None, message=None, method="GET", path=path, extensions={})

    assert answer.body["authorization_servers"] == [gateway.idp.issuer]
