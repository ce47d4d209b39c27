"""B. Request reading: one token in one place, and a server that nobody but the route names."""

import json
from collections.abc import Mapping

import pytest

from ext_authz._protos.base_pb2 import HeaderValue
from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.abuse.verdicts import DeniedWith, Seen
from tests.doubles.tokens import base64url
from tests.envoy.logs import audit_record
from tests.envoy.mcp_call import HEADERS, post, whoami
from tests.envoy.raw_client import send
from tests.envoy.recorder import Recorder
from tests.envoy.test_paths import NO_REQUESTS
from tests.envoy.witnessed import reaching
from tests.pipeline.gateway import TOOL_CALL, Gateway
from tests.pipeline.test_servers import spelled_out
from tests.unit.check_requests import Encoding, header_map

PATH = "/crm/mcp"

# ---- B1, B2: Authorization


@pytest.mark.parametrize("second", ["Bearer {token}", "Bearer x.y.z", "Basic eDp5", ""])
async def test_b1_two_authorization_headers_that_envoy_joined_are_refused(
    gateway: Gateway, denied: DeniedWith, second: str
) -> None:
    token = gateway.sign_in()
    joined = f"Bearer {token},{second.format(token=token)}"

    denied(await gateway.call(token=None, headers={"authorization": joined}), "token_malformed")


@pytest.mark.parametrize("encoding", [Encoding.TEXT, Encoding.RAW])
async def test_b1_two_authorization_headers_one_by_one_are_refused(
    gateway: Gateway, denied: DeniedWith, encoding: Encoding
) -> None:
    request = gateway.request(encoding=encoding)
    second = HeaderValue(key="Authorization", raw_value=b"Bearer x.y.z")
    request.attributes.request.http.header_map.headers.append(second)

    denied(await gateway.check(request), "token_malformed")


def test_b1_two_authorization_headers_on_the_wire_are_refused(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    answer = send(recorded_front.url, post(PATH, alice, f"Authorization: Bearer {alice}"))

    assert (answer.status, answer.reason) == (401, "token_malformed")
    assert recorder.heard == []
    seen("401 token_malformed")


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer  {token}",
        " Bearer {token}",
        "Bearer {token} ",
        "Bearer\t{token}",
        "Bearer {token} {token}",
        "Bearer {token},{token}",
        "Bearer {token}, Bearer {token}",
        'Bearer "{token}"',
        "Bearer {token}\u00a0",
        "Bearer\u2003{token}",
        "Bearer={token}",
        "Bearer: {token}",
        "Basic {token}",
        "DPoP {token}",
        "{token}",
        "Bearer {token}=",
        "Bearer {token}.",
        ",",
        " ",
    ],
)
async def test_b2_what_is_not_one_bearer_token_is_refused(
    gateway: Gateway, denied: DeniedWith, value: str
) -> None:
    header = value.format(token=gateway.sign_in())

    denied(await gateway.call(token=None, headers={"authorization": header}), "token_malformed")


async def test_b2_an_empty_authorization_is_none(gateway: Gateway, denied: DeniedWith) -> None:
    denied(await gateway.call(token=None, headers={"authorization": ""}), "token_missing")


async def test_b2_a_token_of_a_megabyte_is_refused_unread(
    gateway: Gateway, denied: DeniedWith
) -> None:
    huge = f"{base64url(b'{}')}.{'A' * 2**20}.{'A' * 86}"

    denied(await gateway.call(token=huge), "token_malformed")
    assert gateway.idp.jwks.calls[1:] == []


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_b2_the_scheme_in_another_case_is_the_same_scheme(
    gateway: Gateway, seen: Seen, scheme: str
) -> None:
    """Decided: RFC 9110 section 11.1 compares schemes without case, and clients send `bearer`.

    Nothing is gained by spelling it so: the header is overwritten either way.
    """
    headers = {"authorization": f"{scheme} {gateway.sign_in()}"}

    answer = await gateway.call(token=None, headers=headers)

    (token,) = gateway.authorization_server.holders
    assert answer.authorization == f"Bearer {token}"
    seen("any case of `Bearer`: allow")


# ---- B3: a token elsewhere


async def test_b3_a_token_in_the_query_does_not_count(gateway: Gateway, denied: DeniedWith) -> None:
    path = f"{PATH}?access_token={gateway.sign_in()}"

    denied(await gateway.call(token=None, path=path), "token_missing")


async def test_b3_a_token_in_the_body_does_not_count(gateway: Gateway, denied: DeniedWith) -> None:
    token = gateway.sign_in()
    members = {"access_token": token, "authorization": f"Bearer {token}"}
    message = {**TOOL_CALL, **members, "params": {"name": "find", "_meta": members}}

    denied(await gateway.call(token=None, message=message), "token_missing")


async def test_b3_a_form_is_no_place_for_a_token_either(
    gateway: Gateway, denied: DeniedWith
) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = f"access_token={gateway.sign_in()}"

    denied(
        await gateway.call(token=None, message=body, headers=headers),
        "message_malformed",
    )


async def test_b3_the_token_in_header_and_query_is_refused(
    gateway: Gateway, denied: DeniedWith
) -> None:
    """Decided: not ignored but refused, since the MCP server would read it in its URL."""
    token = gateway.sign_in()

    denied(await gateway.call(token=token, path=f"{PATH}?access_token={token}"), "token_malformed")


# ---- B4: encodings


ODD = {
    "x-twice": "a,b",
    "X-Case": "Value",
    "mcp-method": "tools/call",
    "mcp-name": "find_ticket",
    "x_forwarded_user": "root",
    "x-empty": "",
    "x-request-id": "größe",
}


async def _outcome(gateway: Gateway, **request: object) -> Mapping[str, object]:
    """All that a Check comes to, but for what differs from one to the next."""
    answer = await gateway.call(**request)
    (record,) = (r for r in gateway.records() if r["decision_id"] == answer.decision_id)
    removed = tuple(answer.response.ok_response.headers_to_remove)
    changing = {"decision_id", "milliseconds", "token_source", "id_jag_jti", "legs"}
    kept = {name: value for name, value in record.items() if name not in changing}
    return {**kept, "removed": removed, "allowed": answer.is_allow}


@pytest.mark.parametrize("encoding", [Encoding.TEXT, Encoding.RAW])
@pytest.mark.parametrize("name", ["find_ticket", "another"])
async def test_b4_either_encoding_comes_to_the_same(
    gateway: Gateway, seen: Seen, encoding: Encoding, name: str
) -> None:
    headers = {**ODD, "mcp-name": name}
    usual = await _outcome(gateway, headers=headers)
    other = await _outcome(gateway, headers=headers, encoding=encoding)

    assert usual == other
    assert usual["allowed"] is (name == "find_ticket")
    seen("same verdict, record and headers")


async def test_b4_headers_in_both_encodings_are_refused(
    gateway: Gateway, denied: DeniedWith
) -> None:
    request = gateway.request()
    request.attributes.request.http.header_map.CopyFrom(header_map(("x-a", b"b")))

    denied(await gateway.check(request), "request_malformed")


# ---- B5, B6: the server


def field(number: int, content: bytes) -> bytes:
    """A field on the wire, for messages that the service's protos do not even know."""
    return bytes([number << 3 | 2, len(content)]) + content


SNI = field(12, field(1, b"wiki.corp.example"))
DESTINATION = field(2, field(2, b"wiki"))
LIES = {
    "x-forwarded-host": "mcp.corp.example",
    "x-forwarded-path": "/wiki",
    "x-original-url": "/wiki",
    "x-envoy-original-path": "/wiki",
    "forwarded": "host=mcp.corp.example",
    "x-mcp-server": "wiki",
    "mcp.server": "wiki",
    ":authority": "wiki",
    ":path": "/wiki",
}


async def test_b5_nothing_that_a_client_says_changes_the_server(
    gateway: Gateway, seen: Seen
) -> None:
    request = gateway.request(
        headers=LIES, host="mcp.corp.example", path="/wiki/mcp?mcp.server=wiki"
    )
    request.MergeFromString(field(1, SNI + DESTINATION))

    answer = await gateway.check(request)

    assert answer.metadata["server"] == "crm"
    assert gateway.idp.token.calls[0].form["resource"] == "https://crm.corp.example/mcp"
    seen("allow, for the route's server")


@pytest.mark.parametrize(
    "extensions",
    [
        {"mcp.server": "nobody"},
        {"mcp.server": ""},
        {"mcp.server": "crm "},
        {"mcp.server": "CRM"},
        {"mcp.server": "crm,wiki"},
        {"mcp.server": "crm", "mcp.resource": "https://wiki.corp.example/mcp"},
        {"mcp.sever": "crm"},
    ],
    ids=str,
)
async def test_b6_a_route_that_names_no_server_of_ours_is_refused(
    gateway: Gateway, denied: DeniedWith, extensions: dict[str, str]
) -> None:
    denied(
        await gateway.call(extensions=extensions, host="mcp.corp.example", path="/crm"),
        "server_unknown",
    )


async def test_b6_a_route_that_names_none_is_refused(gateway: Gateway, denied: DeniedWith) -> None:
    denied(await gateway.call(extensions={}, path="/hr/mcp"), "server_unknown")


async def test_b6_an_authorization_server_that_is_not_ours_is_refused(
    gateway: Gateway, denied: DeniedWith
) -> None:
    """A route may spell a server out; whom its token is asked of is the settings' to say."""
    extensions = spelled_out(gateway, **{"mcp.authorization_server": "https://evil.example"})

    denied(await gateway.call(extensions=extensions), "server_unknown")


# ---- B7: paths


@pytest.mark.parametrize(
    "path",
    [
        "//crm//mcp",
        "/wiki/../crm/mcp",
        "/wiki/%2e%2e/crm/mcp",
        "/wiki/..;/crm/mcp",
        "/wiki/.;/..;p=1/crm/mcp",
        "/crm/../../crm/mcp",
        "/wiki\\..\\crm\\mcp",
        "/crm/mcp?x=/../../wiki/mcp",
    ],
)
def test_b7_route_and_check_are_about_the_same_server(
    world: World, front: Front, alice: str, seen: Seen, path: str
) -> None:
    with reaching("crm", world) as notes, reaching("wiki", world) as others:
        answer = send(front.url, post(path, alice, host=front.url.removeprefix("http://")))

    (note,) = notes
    record = audit_record(front, answer.headers["x-mcp-ext-authz-decision"])
    assert answer.status == 200
    assert record["server"] == "crm"
    assert note.bearer is not None
    assert note.bearer.aud == world.crm.resource
    assert others == []
    seen("allow, for the route's server")


@pytest.mark.parametrize(
    "path",
    [
        "/crm;p=/mcp",
        "/crm%2fmcp",
        "/wiki/..%2fcrm/mcp",
        "/crm%5cmcp",
        "/crm/mcp%00",
        "/crm/mcp\x00",
        "/crm/mcp#/wiki",
        "/%2563rm/mcp",
        "/CRM/mcp",
        "/noauth/mcp",
    ],
)
def test_b7_what_two_routers_could_read_differently_is_nobodys(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, path: str
) -> None:
    assert send(recorded_front.url, post(path, alice)).status in {400, 404}
    assert recorder.heard == []
    seen("400 or 404 of Envoy")


def test_b7_a_path_parameter_passes_and_the_token_is_its_own_servers(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    """Decided: RFC 3986 allows `;` in a segment. As `..;` Envoy reads it the careful way, as above."""
    answer = send(recorded_front.url, post("/crm/;p=1/mcp", alice))

    (heard,) = recorder.heard
    record = audit_record(recorded_front, answer.headers["x-mcp-ext-authz-decision"])
    assert record["server"] == "crm"
    assert heard.request_line == "POST /;p=1/mcp HTTP/1.1"
    seen("allow, for the route's server")


def test_b7_an_absolute_url_changes_no_server(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    answer = send(recorded_front.url, post("http://wiki/crm/mcp", alice))

    (heard,) = recorder.heard
    record = audit_record(recorded_front, answer.headers["x-mcp-ext-authz-decision"])
    assert record["server"] == "crm"
    assert heard.request_line == "POST /mcp HTTP/1.1"
    seen("allow, for the route's server")


@pytest.mark.parametrize("sent", [line for line in NO_REQUESTS if line.startswith(b"CONNECT")])
def test_b7_connect_is_refused_and_envoy_survives_it(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, sent: bytes
) -> None:
    assert send(recorded_front.url, sent).status == NO_REQUESTS[sent]
    assert recorder.heard == []
    assert send(recorded_front.url, post(PATH, alice)).status == 200
    seen("403 or 400")


# ---- B8, B9: headers that we set, or could


@pytest.mark.parametrize(
    "name",
    [
        "X.Forwarded.User",
        "x-FORWARDED-user",
        "X-Mcp.Ext-Authz.Decision",
        "X-MCP-EXT-AUTHZ-REASON",
        "Remote.User",
        "X.Auth.Request.Email",
    ],
)
def test_b8_an_alias_of_an_identity_header_is_not_forwarded(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, name: str
) -> None:
    answer = send(recorded_front.url, post(PATH, alice, f"{name}: mallory"))

    (heard,) = recorder.heard
    assert answer.status == 200
    assert "mallory" not in heard
    seen("allow, without the alias")


@pytest.mark.parametrize("name", ["X_Forwarded_User", "authorization_", "x_mcp-ext-authz-reason"])
def test_b8_a_name_with_an_underscore_is_refused_by_envoy(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, name: str
) -> None:
    assert send(recorded_front.url, post(PATH, alice, f"{name}: mallory")).status == 400
    assert recorder.heard == []
    seen("400 of Envoy")


@pytest.mark.parametrize(
    "name",
    [
        "X-Mcp-Ext-Authz-Decision",
        "X-Mcp-Ext-Authz-Reason",
        "X-Mcp-Ext-Authz-Anything",
        "X-Envoy-Auth-Partial-Body",
        "X-Envoy-Auth-Failure-Mode-Allowed",
        "X-Forwarded-User",
        "X-Forwarded-Access-Token",
        "Cookie",
    ],
)
def test_b9_a_clients_copy_of_what_we_may_set_is_removed_though_we_set_nothing(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, name: str
) -> None:
    answer = send(recorded_front.url, post(PATH, alice, f"{name}: mallory"))

    (heard,) = recorder.heard
    assert answer.status == 200
    assert name.lower() not in heard.headers
    assert "mallory" not in heard
    seen("allow, without the copy")


# ---- B10: bytes that are no text


@pytest.mark.parametrize(
    "value", [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"a\x00b", b"a\r\n b"]
)
@pytest.mark.parametrize("name", ["authorization", "x-any"])
async def test_b10_a_header_that_is_no_line_of_text_is_refused(
    gateway: Gateway, denied: DeniedWith, name: str, value: bytes
) -> None:
    request = gateway.request(token=None, encoding=Encoding.RAW)
    request.attributes.request.http.header_map.headers.append(
        HeaderValue(key=name, raw_value=value)
    )

    denied(await gateway.check(request), "request_malformed")


async def test_b10_a_body_that_is_not_utf_8_is_refused(
    gateway: Gateway, denied: DeniedWith
) -> None:
    request = gateway.request(encoding=Encoding.RAW)
    request.attributes.request.http.raw_body = json.dumps(TOOL_CALL).encode("utf-16")

    denied(await gateway.check(request), "message_malformed")


@pytest.mark.parametrize(
    "line",
    [b"X-Any: a\r\n folded", b"X-Any: a\x00b", b"Authorization: Bearer a\r\n\tb", b"X-Any : a"],
)
def test_b10_a_folded_or_broken_line_is_refused_by_envoy(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, line: bytes
) -> None:
    request = post(PATH, "").replace(b"Host: front", b"Host: front\r\n" + line)

    assert send(recorded_front.url, request).status in {400, 401}
    assert recorder.heard == []
    seen("400 of Envoy")


def test_b10_an_authorization_that_is_not_utf_8_is_refused(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    line = b"Host: front\r\nAuthorization: Bearer " + alice.encode() + b"\xff"
    answer = send(recorded_front.url, post(PATH, "").replace(b"Host: front", line))

    assert (answer.status, answer.reason) == (401, "token_malformed")
    assert recorder.heard == []
    seen("401 token_malformed")


def test_b10_an_mcp_name_that_is_not_utf_8_is_refused(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    request = post(PATH, alice).replace(b"mcp-name: whoami", b"mcp-name: whoami\xff")
    answer = send(recorded_front.url, request)

    assert HEADERS["mcp-name"] in whoami()
    assert (answer.status, answer.reason) == (403, "message_header_mismatch")
    assert recorder.heard == []
    seen("403 message_header_mismatch")
