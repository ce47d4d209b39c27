"""Which MCP server a request is for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.reasons import Reason
from ext_authz.request.catalogue import Catalogue
from ext_authz.request.facts import METADATA_PATH, RequestFacts
from ext_authz.settings.settings import Match, McpServer
from tests.unit.stage_outcomes import denial, outcome
from tests.unit.trails import AUTH, CRM, USER_TOKEN, facts

WIKI = replace(
    CRM,
    name="wiki",
    url="https://mcp.corp.example/wiki/mcp",
    resource="https://wiki.corp.example/mcp",
)
SPELLED_OUT = {
    "mcp.url": "https://mcp.corp.example/erp/mcp",
    "mcp.resource": "https://erp.corp.example/mcp",
    "mcp.authorization_server": AUTH.issuer,
}


def catalogue_of(*servers: McpServer) -> Catalogue:
    return Catalogue({server.name: server for server in servers}, {AUTH.issuer: AUTH})


def matched(server: McpServer, host: str, path_prefix: str) -> McpServer:
    """A server that the settings give a `match`."""
    return replace(server, match=Match(host=host, path_prefix=path_prefix))


@pytest.fixture
def catalogue() -> Catalogue:
    return catalogue_of(CRM, WIKI)


@pytest.fixture
def matching() -> Catalogue:
    """The CRM under /crm, and in it the wiki under /crm/wiki."""
    return catalogue_of(
        matched(CRM, "mcp.corp.example", "/crm"), matched(WIKI, "mcp.corp.example", "/crm/wiki")
    )


def request_on_a_route(extensions: Mapping[str, str], **changes: Any) -> RequestFacts:
    return facts(extensions=extensions, **changes)


def request_to(path: str, host: str = "mcp.corp.example") -> RequestFacts:
    """A request on a route that says nothing."""
    return facts(extensions={}, path=path, host=host)


# ---- a route that names the server


@pytest.mark.parametrize("server", [CRM, WIKI], ids=["crm", "wiki"])
def test_the_route_names_the_server(catalogue: Catalogue, server: McpServer) -> None:
    assert catalogue.server_of(request_on_a_route({"mcp.server": server.name})) is server


@pytest.mark.parametrize(
    "said",
    [
        {"host": "wiki.corp.example"},
        {"path": "/wiki/mcp"},
        {"path": "//wiki/mcp"},
        {"path": "/wiki/..;/mcp"},
        {"path": "/%2e%2e/wiki%2fmcp;mcp.server=wiki"},
        {"path": "/#/wiki"},
        {"path": METADATA_PATH + "/wiki/mcp", "http_method": "GET"},
        {"query": "mcp.server=wiki"},
        {"body": b'{"mcp.server":"wiki"}'},
        {"headers": {"mcp.server": "wiki", "x-forwarded-host": "wiki.corp.example"}},
        {"headers": {":authority": "wiki.corp.example", "x-original-url": "/wiki/mcp"}},
    ],
)
def test_nothing_that_the_client_says_changes_it(said: dict[str, Any]) -> None:
    matching = catalogue_of(CRM, matched(WIKI, "wiki.corp.example", "/wiki"))

    assert matching.server_of(request_on_a_route({"mcp.server": "crm"}, **said)) is CRM


@pytest.mark.parametrize("name", ["", "CRM", "crm ", "erp", "*", "crm,wiki"])
def test_a_name_that_is_not_in_the_catalogue_is_denied(catalogue: Catalogue, name: str) -> None:
    request = request_on_a_route({"mcp.server": name})

    assert outcome(catalogue.server_of, request) is Reason.SERVER_UNKNOWN


def test_a_route_that_says_nothing_is_denied(catalogue: Catalogue) -> None:
    assert outcome(catalogue.server_of, request_to("/crm/mcp")) is Reason.SERVER_UNKNOWN


def test_extensions_that_are_not_ours_are_passed_over(catalogue: Catalogue) -> None:
    request = request_on_a_route({"mcp.server": "crm", "tenant": "x", "mcp": "y"})

    assert catalogue.server_of(request) is CRM


# ---- a route that spells its server out


def test_a_route_spells_a_server_out(catalogue: Catalogue) -> None:
    scopes = {"mcp.scopes": " orders.read  orders.write orders.read"}

    assert catalogue.server_of(request_on_a_route(SPELLED_OUT | scopes)) == McpServer(
        name="https://erp.corp.example/mcp",
        url="https://mcp.corp.example/erp/mcp",
        resource="https://erp.corp.example/mcp",
        authorization_server=AUTH,
        scopes=("orders.read", "orders.write"),
        match=None,
    )


def test_its_scopes_may_be_left_out(catalogue: Catalogue) -> None:
    assert catalogue.server_of(request_on_a_route(SPELLED_OUT)).scopes == ()


def test_its_metadata_are_on_its_own_route(catalogue: Catalogue) -> None:
    request = request_on_a_route(SPELLED_OUT, http_method="GET", path=METADATA_PATH + "/crm/mcp")

    assert catalogue.server_of(request).url == SPELLED_OUT["mcp.url"]


@pytest.mark.parametrize("missing", SPELLED_OUT)
def test_it_is_spelled_out_whole_or_denied(catalogue: Catalogue, missing: str) -> None:
    extensions = {name: value for name, value in SPELLED_OUT.items() if name != missing}

    assert outcome(catalogue.server_of, request_on_a_route(extensions)) is Reason.SERVER_UNKNOWN


@pytest.mark.parametrize(
    "more",
    [
        {"mcp.server": "crm"},
        {"mcp.scope": "orders.read"},
        {"mcp.": ""},
        {"mcp.authorization_server": "https://auth.elsewhere.example"},
        {"mcp.authorization_server": AUTH.issuer + "/"},
        {"mcp.authorization_server": ""},
        {"mcp.url": ""},
        {"mcp.url": "http://mcp.corp.example/erp"},
        {"mcp.url": 'https://mcp.corp.example/"erp'},
        {"mcp.resource": ""},
        {"mcp.resource": "https://169.254.169.254/"},
        {"mcp.resource": "https://user@erp.corp.example/"},
    ],
)
def test_what_is_unknown_or_unusable_in_it_is_denied(
    catalogue: Catalogue, more: dict[str, str]
) -> None:
    request = request_on_a_route(SPELLED_OUT | more)

    assert outcome(catalogue.server_of, request) is Reason.SERVER_UNKNOWN


def test_a_denial_repeats_nothing_of_the_request(catalogue: Catalogue) -> None:
    denied = denial(catalogue.server_of, request_to(f"/{USER_TOKEN}", host=USER_TOKEN))

    assert USER_TOKEN not in denied.detail


# ---- resource metadata, on the one route for all servers


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("server", [CRM, WIKI], ids=["crm", "wiki"])
def test_metadata_are_found_by_the_path_of_the_servers_url(
    catalogue: Catalogue, server: McpServer, slash: str, method: str
) -> None:
    path = f"{METADATA_PATH}/{server.name}/mcp{slash}"

    assert catalogue.server_of(facts(extensions={}, http_method=method, path=path)) is server


def test_metadata_of_a_server_at_the_root_have_no_path_of_their_own() -> None:
    root = replace(CRM, url="https://crm.mcp.corp.example/")
    request = facts(extensions={}, http_method="GET", path=METADATA_PATH)

    assert catalogue_of(root).server_of(request) is root


CRM_BY_HOST = replace(CRM, url="https://CRM.mcp.corp.example/mcp")
WIKI_BY_HOST = replace(WIKI, url="https://wiki.mcp.corp.example/mcp")


@pytest.mark.parametrize("server", [CRM_BY_HOST, WIKI_BY_HOST], ids=["crm", "wiki"])
def test_the_host_tells_servers_apart_whose_urls_have_one_path(server: McpServer) -> None:
    host = f"{server.name}.mcp.corp.example"
    request = facts(extensions={}, http_method="GET", path=METADATA_PATH + "/mcp", host=host)

    assert catalogue_of(CRM_BY_HOST, WIKI_BY_HOST).server_of(request) is server


def test_metadata_for_the_host_of_neither_are_denied() -> None:
    request = facts(extensions={}, http_method="GET", path=METADATA_PATH + "/mcp")
    both = catalogue_of(CRM_BY_HOST, WIKI_BY_HOST)

    assert outcome(both.server_of, request) is Reason.SERVER_UNKNOWN


@pytest.mark.parametrize(
    "rest", ["", "/", "/erp/mcp", "/crm", "/crm/mcp/x", "/CRM/mcp", "/crm%2fmcp"]
)
def test_metadata_of_no_server_are_denied(catalogue: Catalogue, rest: str) -> None:
    request = facts(extensions={}, http_method="GET", path=METADATA_PATH + rest)

    assert outcome(catalogue.server_of, request) is Reason.SERVER_UNKNOWN


def test_the_metadata_path_leads_no_other_request_to_a_server(catalogue: Catalogue) -> None:
    request = facts(extensions={}, http_method="POST", path=METADATA_PATH + "/crm/mcp")

    assert outcome(catalogue.server_of, request) is Reason.SERVER_UNKNOWN


# ---- routes that cannot say anything: host and path, where the settings configure a match


@pytest.mark.parametrize(
    "path", ["/crm", "/crm/", "/crm/mcp", "/crm/mcp/", "/crm/wikis", "/crm/a:b"]
)
def test_a_match_leads_to_its_server(matching: Catalogue, path: str) -> None:
    assert matching.server_of(request_to(path)).name == "crm"


@pytest.mark.parametrize("path", ["/crm/wiki", "/crm/wiki/mcp"])
def test_the_longest_matching_prefix_wins(matching: Catalogue, path: str) -> None:
    assert matching.server_of(request_to(path)).name == "wiki"


@pytest.mark.parametrize("path", ["/", "/crmx", "/CRM", "/crm.", "/cr", "/x/crm"])
def test_a_path_outside_of_every_match_is_denied(matching: Catalogue, path: str) -> None:
    assert outcome(matching.server_of, request_to(path)) is Reason.SERVER_UNKNOWN


@pytest.mark.parametrize(
    "path",
    [
        "//crm",
        "/crm//mcp",
        "/crm/./mcp",
        "/crm/../crm",
        "/wiki/../crm",
        "/crm/..",
        "/crm/..;/x",
        "/crm;p=1",
        "/crm/mcp;p=1",
        "/crm%2fmcp",
        "/%63rm",
        "/crm/%2e%2e/x",
        "/crm\\mcp",
        "/crm/\\..\\x",
        "/crm/#x",
        "/crm/\0",
        "/crm/ x",
        "/crm/é",
        "/crm/\u2028",
        "/crm/http://elsewhere.example/",
    ],
)
def test_a_path_with_two_readings_matches_nothing(matching: Catalogue, path: str) -> None:
    assert outcome(matching.server_of, request_to(path)) is Reason.SERVER_UNKNOWN


plain_segment = st.text("abcXYZ019-._~!$&'()*+,=:@", min_size=1).filter(
    lambda segment: segment not in {".", ".."}
)
ambiguous = st.sampled_from(["", ".", "..", "a;b", "%2e", "a\\b", "a%b", "#", "é", " "])


@given(st.lists(plain_segment, max_size=5))
def test_every_plain_path_under_the_prefix_matches(segments: list[str]) -> None:
    crm = matched(CRM, "mcp.corp.example", "/crm")

    assert catalogue_of(crm).server_of(request_to("/".join(["/crm", *segments]))) is crm


@given(st.lists(plain_segment), ambiguous, st.lists(plain_segment, min_size=1))
def test_one_ambiguous_segment_spoils_any_path(
    before: list[str], segment: str, after: list[str]
) -> None:
    crm = matched(CRM, "mcp.corp.example", "/crm")
    path = "/".join(["/crm", *before, segment, *after])

    assert outcome(catalogue_of(crm).server_of, request_to(path)) is Reason.SERVER_UNKNOWN


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        ("mcp.corp.example", "mcp.corp.example"),
        ("mcp.corp.example", "mcp.corp.example:8443"),
        ("mcp.corp.example:8443", "mcp.corp.example:8443"),
    ],
)
def test_a_host_matches_with_any_port_unless_one_is_configured(configured: str, said: str) -> None:
    crm = matched(CRM, configured, "/crm")

    assert catalogue_of(crm).server_of(request_to("/crm/mcp", host=said)) is crm


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        ("mcp.corp.example", "corp.example"),
        ("mcp.corp.example", "mcp.corp.example."),
        ("mcp.corp.example", "x.mcp.corp.example"),
        ("mcp.corp.example", "user@mcp.corp.example"),
        ("mcp.corp.example", "mcp.corp.example,elsewhere.example"),
        ("mcp.corp.example", ""),
        ("mcp.corp.example:8443", "mcp.corp.example"),
        ("mcp.corp.example:8443", "mcp.corp.example:443"),
    ],
)
def test_another_host_matches_nothing(configured: str, said: str) -> None:
    crm = matched(CRM, configured, "/crm")
    request = request_to("/crm/mcp", host=said)

    assert outcome(catalogue_of(crm).server_of, request) is Reason.SERVER_UNKNOWN
