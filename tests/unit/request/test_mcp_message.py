"""The MCP message of a request: what every JSON-RPC parser reads alike, or nothing."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ext_authz.reasons import Reason
from ext_authz.request.facts import RequestFacts
from ext_authz.request.mcp_message import (
    HEADERS_BIND_SINCE,
    MAX_NAME_LENGTH,
    McpMessage,
    MessageKind,
    MessageSource,
    read_message,
)
from tests.unit.stage_outcomes import denial, outcome
from tests.unit.trails import facts

MESSAGE_REASONS = {
    Reason.HTTP_METHOD_REFUSED,
    Reason.MESSAGE_MALFORMED,
    Reason.MESSAGE_HEADER_MISMATCH,
}
CANARY = "canary-7f3a"


def posted(body: object, headers: Mapping[str, str] | None = None) -> RequestFacts:
    """A POST whose body is seen: bytes as they are, all else as JSON."""
    document = body if isinstance(body, bytes) else json.dumps(body).encode()
    plain = {"content-type": "application/json"}
    return facts(headers=plain | dict(headers or {}), body=document)


def unseen(headers: Mapping[str, str]) -> RequestFacts:
    """A POST whose body is not seen."""
    return facts(headers={"mcp-protocol-version": HEADERS_BIND_SINCE} | dict(headers), body=None)


def call(**members: object) -> dict[str, object]:
    """A tool call, some of its members changed."""
    usual = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "create"}}
    return usual | members


def encoded(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


# ---- the protocol version


@pytest.mark.parametrize(
    "request_",
    [
        posted(call()),
        posted({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        posted({"jsonrpc": "2.0", "id": 1, "result": {}}),
        facts(http_method="GET", body=None),
        facts(http_method="DELETE", body=None),
        unseen({}),
        unseen({"mcp-method": "tools/list"}),
    ],
    ids=["request", "notification", "response", "stream", "end", "unseen", "header"],
)
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_a_message_has_the_protocol_version_that_its_request_names(
    request_: RequestFacts, version: str
) -> None:
    headers = {**request_.headers, "mcp-protocol-version": version}

    assert read_message(replace(request_, headers=headers)).protocol_version == version


# ---- requests and notifications


@pytest.mark.parametrize(
    ("method", "params", "target"),
    [
        ("tools/call", {"name": "create", "arguments": {"name": "other"}}, "create"),
        ("tools/call", {"name": "x"}, "x"),
        ("prompts/get", {"name": "greet"}, "greet"),
        ("resources/read", {"uri": "file:///a"}, "file:///a"),
        ("resources/subscribe", {"uri": "file:///a"}, "file:///a"),
        ("resources/unsubscribe", {"uri": "file:///a"}, "file:///a"),
        ("tools/list", {"name": "create"}, None),
        ("tools/list", {}, None),
        ("initialize", {"protocolVersion": "2025-11-25"}, None),
        ("vendor/anything", {"name": "x"}, None),
    ],
)
def test_a_request_is_read_with_what_it_is_about(
    method: str, params: object, target: str | None
) -> None:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}

    assert read_message(posted(body)) == McpMessage(
        kind=MessageKind.REQUEST,
        source=MessageSource.BODY,
        method=method,
        target=target,
        rpc_id=7,
        protocol_version=None,
    )


@pytest.mark.parametrize("params", [{}, {"params": None}])
def test_params_may_be_left_out(params: dict[str, object]) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} | params

    assert read_message(posted(body)).method == "tools/list"


def test_a_call_without_an_id_is_a_notification() -> None:
    found = read_message(posted({"jsonrpc": "2.0", "method": "notifications/cancelled"}))

    assert (found.kind, found.rpc_id) == (MessageKind.NOTIFICATION, None)


@pytest.mark.parametrize("rpc_id", ["", "a", 0, -1, 2**53 - 1, 1 - 2**53])
def test_an_id_is_a_text_or_an_integer(rpc_id: object) -> None:
    assert read_message(posted(call(id=rpc_id))).rpc_id == rpc_id


@pytest.mark.parametrize("rpc_id", [None, True, 1.0, 1.5, [], {}, 2**53, -(2**53)])
def test_any_other_id_is_malformed(rpc_id: object) -> None:
    assert outcome(read_message, posted(call(id=rpc_id))) is Reason.MESSAGE_MALFORMED


def test_a_name_is_kept_to_the_letter() -> None:
    name = "\u202ecreate\u0000\r\n<b>\U0001f600\uff43reate"

    assert read_message(posted(call(params={"name": name}))).target == name


@pytest.mark.parametrize("name", [None, "", 1, ["create"], "x" * (MAX_NAME_LENGTH + 1)])
def test_a_tool_call_without_a_usable_name_is_malformed(name: object) -> None:
    assert outcome(read_message, posted(call(params={"name": name}))) is Reason.MESSAGE_MALFORMED


@pytest.mark.parametrize("params", [{}, None])
def test_a_tool_call_that_names_no_tool_is_malformed(params: object) -> None:
    assert outcome(read_message, posted(call(params=params))) is Reason.MESSAGE_MALFORMED


@pytest.mark.parametrize("field", ["method", "target", "rpc_id"])
def test_a_text_as_long_as_allowed_is_read_and_a_longer_one_malformed(field: str) -> None:
    def with_text(text: str) -> RequestFacts:
        members: dict[str, dict[str, object]] = {
            "method": {"method": text},
            "target": {"params": {"name": text}},
            "rpc_id": {"id": text},
        }
        return posted(call(**members[field]))

    assert getattr(read_message(with_text("x" * MAX_NAME_LENGTH)), field) == "x" * MAX_NAME_LENGTH
    longer = with_text("x" * (MAX_NAME_LENGTH + 1))
    assert outcome(read_message, longer) is Reason.MESSAGE_MALFORMED


# ---- responses


@pytest.mark.parametrize("result", [{"result": {}}, {"result": None}, {"error": {"code": 1}}])
@pytest.mark.parametrize("rpc_id", [7, "7", None])
def test_a_response_to_the_server_is_read(result: dict[str, object], rpc_id: object) -> None:
    found = read_message(posted({"jsonrpc": "2.0", "id": rpc_id} | result))

    assert found == McpMessage(
        kind=MessageKind.RESPONSE,
        source=MessageSource.BODY,
        rpc_id=rpc_id,  # type: ignore[arg-type]
    )


# ---- what is no message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\\u0061me":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b"jsonrpc=2.0&method=ping",
    ],
)
def test_what_is_not_one_strict_json_object_is_malformed(body: bytes) -> None:
    assert outcome(read_message, posted(body)) is Reason.MESSAGE_MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": 1, "method": "ping"},
        {"jsonrpc": 2.0, "id": 1, "method": "ping"},
        {"jsonrpc": "2", "id": 1, "method": "ping"},
        {"JSONRPC": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "Method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": None},
        {"jsonrpc": "2.0", "id": 1, "method": ""},
        {"jsonrpc": "2.0", "id": 1, "method": ["ping"]},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": "x"},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "result": {}},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "error": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}},
        {"jsonrpc": "2.0", "result": {}},
        {"jsonrpc": "2.0", "error": {}},
    ],
)
def test_what_is_not_json_rpc_is_malformed(body: object) -> None:
    assert outcome(read_message, posted(body)) is Reason.MESSAGE_MALFORMED


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"]
)
def test_json_is_read_in_any_spelling_of_its_type(kind: str) -> None:
    assert read_message(posted(call(), {"content-type": kind})).target == "create"


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/json-seq"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain,application/json"},
        {"content-type": "application/json,text/plain"},
        {"content-encoding": "gzip"},
        {"content-encoding": "identity,gzip"},
        {"content-encoding": ""},
        {"content-length": "1"},
        {"content-length": ""},
        {"content-length": "x"},
        {"content-length": "+72"},
    ],
)
def test_a_body_that_is_not_what_its_headers_say_is_malformed(headers: dict[str, str]) -> None:
    assert outcome(read_message, posted(call(), headers)) is Reason.MESSAGE_MALFORMED


def test_a_body_that_is_what_its_headers_say_is_read() -> None:
    length = str(len(json.dumps(call())))
    headers = {"content-encoding": "identity", "content-length": length}

    assert read_message(posted(call(), headers)).target == "create"


def test_a_body_without_a_type_is_malformed() -> None:
    assert outcome(read_message, facts(headers={}, body=b"{}")) is Reason.MESSAGE_MALFORMED


# ---- headers that repeat the body


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/call"},
        {"mcp-method": "tools/call", "mcp-name": "create"},
        {"mcp-method": "tools/call", "mcp-name": encoded("create")},
        {"mcp-method": "tools/call", "mcp-name": encoded("create").replace("base64", "BASE64")},
    ],
)
def test_headers_that_agree_with_the_body_change_nothing(headers: dict[str, str]) -> None:
    assert read_message(posted(call(), headers)) == read_message(posted(call()))


def test_a_name_beyond_ascii_is_compared_decoded() -> None:
    body = call(params={"name": "größe"})
    headers = {"mcp-method": "tools/call", "mcp-name": encoded("größe")}

    assert read_message(posted(body, headers)).target == "größe"


def test_a_resource_is_named_by_its_uri() -> None:
    body = call(method="resources/read", params={"uri": "file:///a,b"})
    headers = {"mcp-method": "resources/read", "mcp-name": "file:///a,b"}

    assert read_message(posted(body, headers)).target == "file:///a,b"


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/list"},
        {"mcp-method": ""},
        {"mcp-method": "Tools/Call"},
        {"mcp-method": "tools/call,tools/call"},
        {"mcp-method": "tools/call,tools/list"},
        {"mcp-method": encoded("tools/call")},
        {"mcp-name": "create"},
        {"mcp-method": "tools/call", "mcp-name": "delete"},
        {"mcp-method": "tools/call", "mcp-name": ""},
        {"mcp-method": "tools/call", "mcp-name": "create,create"},
        {"mcp-method": "tools/call", "mcp-name": encoded("delete")},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?Y3JlYXRl"},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?Y3J?="},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?/w==?="},
    ],
)
def test_headers_that_disagree_with_the_body_are_a_mismatch(headers: dict[str, str]) -> None:
    assert outcome(read_message, posted(call(), headers)) is Reason.MESSAGE_HEADER_MISMATCH


@pytest.mark.parametrize(
    ("method", "params"),
    [("tools/list", {"name": "create"}), ("resources/subscribe", {"uri": "create"})],
)
def test_a_name_for_a_method_that_has_none_is_a_mismatch(method: str, params: object) -> None:
    headers = {"mcp-method": method, "mcp-name": "create"}
    request = posted(call(method=method, params=params), headers)

    assert outcome(read_message, request) is Reason.MESSAGE_HEADER_MISMATCH


def test_a_method_for_a_response_is_a_mismatch() -> None:
    request = posted({"jsonrpc": "2.0", "id": 1, "result": {}}, {"mcp-method": "tools/call"})

    assert outcome(read_message, request) is Reason.MESSAGE_HEADER_MISMATCH


# ---- headers that stand in for the body


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("tools/list", MessageKind.REQUEST),
        ("notifications/cancelled", MessageKind.NOTIFICATION),
    ],
)
def test_where_the_body_is_unseen_the_headers_speak(method: str, kind: MessageKind) -> None:
    assert read_message(unseen({"mcp-method": method})) == McpMessage(
        kind=kind,
        source=MessageSource.HEADER,
        method=method,
        protocol_version=HEADERS_BIND_SINCE,
    )


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
@pytest.mark.parametrize("name", ["größe", "plain"])
def test_they_name_what_a_request_is_about(method: str, name: str) -> None:
    found = read_message(unseen({"mcp-method": method, "mcp-name": encoded(name)}))

    assert (found.source, found.target) == (MessageSource.HEADER, name)


@pytest.mark.parametrize(
    "version", ["", "2025-11-25", "2026-07-27", "latest", "2026-07-28x", "2026-7-28", "٢٠٢٦-07-28"]
)
def test_under_a_version_that_does_not_bind_them_the_method_is_unknown(version: str) -> None:
    request = unseen({"mcp-method": "tools/list", "mcp-protocol-version": version})
    found = read_message(request)

    assert (found.kind, found.method, found.source) == (
        MessageKind.UNKNOWN,
        None,
        MessageSource.NONE,
    )


def test_without_them_the_method_is_unknown() -> None:
    found = read_message(unseen({}))

    assert (found.kind, found.source) == (MessageKind.UNKNOWN, MessageSource.NONE)


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-name": "create"},
        {"mcp-method": "tools/call,tools/call"},
        {"mcp-method": "tools/list,tools/call"},
        {"mcp-method": "tools/call,tools/call", "mcp-name": "create"},
        {"mcp-method": "tools/list", "mcp-name": "create"},
        {"mcp-method": "notifications/cancelled", "mcp-name": "create"},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?/w==?="},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?Y3J?="},
    ],
)
def test_headers_that_are_orphaned_doubled_or_undecodable_are_a_mismatch(
    headers: dict[str, str],
) -> None:
    assert outcome(read_message, unseen(headers)) is Reason.MESSAGE_HEADER_MISMATCH


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": ""},
        {"mcp-method": "x" * (MAX_NAME_LENGTH + 1)},
        {"mcp-method": "tools/call", "mcp-name": ""},
        {"mcp-method": "tools/call", "mcp-name": encoded("")},
        {"mcp-method": "tools/call", "mcp-name": encoded("x" * (MAX_NAME_LENGTH + 1))},
    ],
)
def test_headers_with_an_unusable_name_are_malformed(headers: dict[str, str]) -> None:
    assert outcome(read_message, unseen(headers)) is Reason.MESSAGE_MALFORMED


# ---- other HTTP methods


@pytest.mark.parametrize(
    ("method", "kind"), [("GET", MessageKind.STREAM), ("DELETE", MessageKind.SESSION_END)]
)
def test_get_and_delete_are_classified_and_keep_the_version(method: str, kind: MessageKind) -> None:
    headers = {"mcp-protocol-version": "2025-11-25", "mcp-method": "tools/call"}
    found = read_message(facts(http_method=method, headers=headers, body=b"{}"))

    assert found == McpMessage(kind=kind, protocol_version="2025-11-25")


@pytest.mark.parametrize(
    "method", ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "POST ", "get", "X"]
)
def test_any_other_http_method_is_refused(method: str) -> None:
    request = facts(http_method=method)

    assert outcome(read_message, request) is Reason.HTTP_METHOD_REFUSED


# ---- whatever comes


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
message = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "id": st.integers() | st.text(max_size=5) | json_value,
        "method": st.sampled_from(["tools/call", "resources/read", "ping"]) | json_value,
        "params": st.fixed_dictionaries({}, optional={"name": json_value, "uri": json_value})
        | json_value,
        "result": json_value,
        "error": json_value,
    },
)
body = st.none() | st.binary() | message.map(lambda drawn: json.dumps(drawn).encode())
words = st.sampled_from(["tools/call", "create", "2026-07-28", "=?base64?Y3I=?=", "identity", "2"])
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json"] * 4) | st.text()},
    optional={
        name: words | st.text()
        for name in (
            "mcp-method",
            "mcp-name",
            "mcp-protocol-version",
            "content-encoding",
            "content-length",
        )
    },
)


@given(st.sampled_from(["POST"] * 8 + ["GET", "DELETE", ""]), headers, body)
@example("POST", {"mcp-method": "m", "mcp-name": "=?base64?====?="}, None)
def test_any_request_has_a_message_or_is_denied(
    method: str, given_headers: dict[str, str], given_body: bytes | None
) -> None:
    request = facts(http_method=method, headers=given_headers, body=given_body)
    found = outcome(read_message, request)

    assert isinstance(found, McpMessage) or found in MESSAGE_REASONS


@given(message)
def test_what_is_read_is_what_the_standard_library_reads(drawn: dict[str, Any]) -> None:
    found = outcome(read_message, posted(drawn))

    if isinstance(found, McpMessage):
        again = json.loads(json.dumps(drawn))
        assert (found.method, found.rpc_id) == (again.get("method"), again.get("id"))


@pytest.mark.parametrize(
    "request_",
    [
        posted(call(method=[CANARY])),
        posted(CANARY.encode()),
        posted(call(), {"content-type": CANARY}),
        posted(call(), {"mcp-method": CANARY}),
        posted(call(), {"mcp-method": "tools/call", "mcp-name": CANARY}),
        facts(http_method=CANARY),
    ],
)
def test_a_denial_repeats_nothing_of_the_request(request_: RequestFacts) -> None:
    assert CANARY not in denial(read_message, request_).detail
