"""C. MCP body: what could be read in two ways is refused, and what is not read is not guessed."""

import json
import time
from typing import Any

import pytest

from ext_authz.audit.canonical import shown
from ext_authz.demo.front import Front
from tests.abuse.verdicts import DeniedWith, Seen
from tests.envoy.mcp_call import post, whoami
from tests.envoy.raw_client import send
from tests.envoy.recorder import Recorder
from tests.envoy.test_bodies import LIMIT, PATH, body_of, chunked
from tests.pipeline.gateway import TOOL_CALL, Gateway
from tests.pipeline.test_allow import KINDS
from tests.unit.check_requests import Encoding

BINDING = {"mcp-protocol-version": "2026-07-28"}
CALL = {"mcp-method": "tools/call", "mcp-name": "find_ticket"}
AT_ONCE = 1.0

# ---- C1, C2: JSON that two parsers read differently


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"tools/call"}',
        '{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","l":[[{"x":1,"x":2}]]}}',
    ],
)
async def test_c1_a_key_that_stands_twice_is_refused(
    gateway: Gateway, denied: DeniedWith, body: str
) -> None:
    denied(await gateway.call(message=body), "message_malformed")


UNREADABLE = {
    "nothing": "",
    "no object": '"ping"',
    "batch": json.dumps([TOOL_CALL]),
    "batch of none": "[]",
    "trailing bytes": json.dumps(TOOL_CALL) + "{}",
    "trailing text": json.dumps(TOOL_CALL) + " x",
    "two lines": f"{json.dumps(TOOL_CALL)}\n{json.dumps(TOOL_CALL)}",
    "byte order mark": "\ufeff" + json.dumps(TOOL_CALL),
    "NaN": '{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    "Infinity": '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":-Infinity}}',
    "overflow": '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":1e999}}',
    "huge integer": f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{"9" * 500_000}}}}}',
    "unsafe id": '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}',
    "deep list": '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":' + "[" * 400_000,
    "deep object": '{"a":' * 200_000 + "1" + "}" * 200_000,
    "just too deep": json.dumps(TOOL_CALL)[:-1] + ',"x":' + "[" * 64 + "]" * 64 + "}",
    "lone surrogate": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}',
    "surrogate key": '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"\\udfff":1}}',
    "comment": '{"jsonrpc":"2.0","id":1,"method":"ping"} // x',
    "single quotes": "{'jsonrpc':'2.0','id':1,'method':'ping'}",
    "raw newline": '{"jsonrpc":"2.0","id":1,"method":"pi\nng"}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_c2_what_is_not_one_strict_json_message_is_refused_at_once(
    gateway: Gateway, denied: DeniedWith, body: str
) -> None:
    began = time.monotonic()

    denied(await gateway.call(message=body), "message_malformed")
    assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize(
    "changes",
    [
        {"jsonrpc": "1.0"},
        {"jsonrpc": 2.0},
        {"id": None},
        {"id": True},
        {"id": 1.5},
        {"id": {}},
        {"method": ""},
        {"method": None},
        {"method": ["tools/call"]},
        {"params": [1]},
        {"params": {}},
        {"params": {"name": 7}},
        {"params": {"name": "x" * 3000}},
        {"result": {}},
    ],
    ids=str,
)
async def test_c2_what_is_no_json_rpc_message_is_refused(
    gateway: Gateway, denied: DeniedWith, changes: dict[str, Any]
) -> None:
    denied(await gateway.call(message={**TOOL_CALL, **changes}), "message_malformed")


# ---- C3: bodies of which something is missing


@pytest.mark.parametrize("length", ["0", "1", "999999", "-1", "abc", "1,2", ""])
async def test_c3_a_length_that_is_not_the_bodys_is_refused(
    gateway: Gateway, denied: DeniedWith, length: str
) -> None:
    denied(await gateway.call(headers={"content-length": length}), "message_malformed")


@pytest.mark.parametrize("said", ["true", "TRUE", "false,true", "", "no"])
async def test_c3_a_body_that_came_in_part_is_not_read_at_all(
    gateway: Gateway, seen: Seen, said: str
) -> None:
    """Decided: not refused. Operators may hand the service no bodies, or the beginning of large ones.

    What was not seen whole is `unknown` in the audit, and nothing of its beginning counts. The
    shipped front never sends such a Check: see the next test.
    """
    answer = await gateway.call(headers={"x-envoy-auth-partial-body": said})

    (record,) = gateway.records()
    assert answer.is_allow
    assert (record["mcp_kind"], record["mcp_source"]) == ("unknown", "none")
    assert (record["mcp_method"], record["mcp_target"], record["rpc_id"]) == (None, None, None)
    seen("allow as unknown")


@pytest.mark.parametrize("written", [bytes, chunked], ids=["whole", "in chunks"])
def test_c3_a_body_that_the_front_cannot_hand_over_whole_goes_nowhere(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, written: type
) -> None:
    request = written(post(PATH, alice, body=body_of(LIMIT + 1)))

    assert send(recorded_front.url, request).status == 413
    assert recorder.heard == []
    seen("413 of Envoy")


@pytest.mark.parametrize("said", ["true", "false"])
def test_c3_a_client_cannot_say_how_much_of_its_body_was_seen(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, said: str
) -> None:
    """Were it believed, `Mcp-Name` would go uncompared."""
    body = whoami().replace('"tools/call"', '"tools/list"')
    lines = [f"X-Envoy-Auth-Partial-Body: {said}"]
    answer = send(recorded_front.url, post(PATH, alice, *lines, body=body))

    assert (answer.status, answer.reason) == (403, "message_header_mismatch")
    assert recorder.heard == []
    seen("403 message_header_mismatch")


# ---- C4: Mcp-Method, Mcp-Name


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/list"},
        {"mcp-method": "Tools/Call"},
        {"mcp-method": ""},
        {"mcp-method": "tools/call,tools/call"},
        {"mcp-method": "tools/call, tools/list"},
        {"mcp-name": "find_ticket"},
        {"mcp-method": "ping", "mcp-name": "find_ticket"},
        {"mcp-method": "tools/call", "mcp-name": "delete_ticket"},
        {"mcp-method": "tools/call", "mcp-name": "FIND_TICKET"},
        {"mcp-method": "tools/call", "mcp-name": "find_ticket,find_ticket"},
        {"mcp-method": "tools/call", "mcp-name": ""},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?ZGVsZXRl?="},
        {"mcp-method": "tools/call", "mcp-name": "=?base64?/w==?="},
    ],
    ids=str,
)
async def test_c4_headers_that_say_something_else_than_the_body_are_refused(
    gateway: Gateway, denied: DeniedWith, headers: dict[str, str]
) -> None:
    denied(await gateway.call(headers={**BINDING, **headers}), "message_header_mismatch")


async def test_c4_a_name_without_its_method_is_refused_where_there_is_no_body_too(
    gateway: Gateway, denied: DeniedWith
) -> None:
    headers = {**BINDING, "mcp-name": "find_ticket"}

    denied(await gateway.call(message=None, headers=headers), "message_header_mismatch")


@pytest.mark.parametrize("method", ["DELETE", "GET"])
async def test_c4_headers_on_a_request_that_has_no_message_count_for_nothing(
    gateway: Gateway, seen: Seen, method: str
) -> None:
    """Decided: not refused. MCP mirrors a message, and here is none; nor are they believed."""
    answer = await gateway.call(method=method, message=None, headers={**BINDING, **CALL})

    (record,) = gateway.records()
    assert answer.is_allow
    assert (record["mcp_method"], record["mcp_target"]) == (None, None)
    seen("allow, headers not believed")


# ---- C5: bodies in other clothes


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
        {"content-encoding": "identity, gzip"},
        {"content-encoding": ""},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/json-seq"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json,text/plain"},
        {"content-type": "text/plain; application/json"},
    ],
    ids=str,
)
async def test_c5_a_body_that_is_not_plain_json_is_refused(
    gateway: Gateway, denied: DeniedWith, headers: dict[str, str]
) -> None:
    denied(await gateway.call(headers=headers), "message_malformed")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"]
)
async def test_c5_json_by_its_usual_names_is_read(gateway: Gateway, seen: Seen, kind: str) -> None:
    answer = await gateway.call(headers={"content-type": kind})

    assert answer.is_allow
    seen("plain JSON: allow")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Content-Length: {length}\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: {length}\r\nContent-Length: 1", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, identity", 501),
        ("Transfer-Encoding:\tchunked\r\nTransfer-Encoding: chunked", 501),
        ("Content-Length: +{length}", 400),
    ],
)
def test_c5_a_length_that_can_be_read_in_two_ways_is_refused_by_envoy(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, said: str, status: int
) -> None:
    length = len(whoami())
    lines = said.format(length=length).encode()
    request = post(PATH, alice).replace(f"Content-Length: {length}".encode(), lines)

    assert send(recorded_front.url, request).status == status
    assert recorder.heard == []
    seen("400 or 501 of Envoy")


def test_c5_a_body_in_odd_chunks_is_read_like_any_other(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    assert send(recorded_front.url, chunked(post(PATH, alice), size=1)).status == 200

    (heard,) = recorder.heard
    assert heard.body == whoami().encode()
    seen("in chunks: allow")


# ---- C6: names that look like others

NAMES = {
    "escaped": '"\\u0066ind_ticket"',
    "homoglyph": '"f\u0456nd_ticket"',
    "escaped homoglyph": '"f\\u0456nd_ticket"',
    "right to left": '"\u202etekcit_dnif"',
    "zero width": '"find\u200b_ticket"',
    "NUL": '"find\\u0000ticket"',
    "new line": '"find\\n{\\"verdict\\":\\"allow\\"}"',
    "terminal": '"\\u001b[2K\\u009b2K\\u007f"',
    "line separator": '"find\u2028ticket"',
    "astral": '"\\ud83d\\ude00"',
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_c6_a_name_is_in_the_audit_as_it_was_and_told_apart_by_its_escapes(
    gateway: Gateway, seen: Seen, name: str
) -> None:
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name}}}}}'

    answer = await gateway.call(message=body)

    (record,) = gateway.records()
    assert answer.is_allow
    assert record["mcp_target"] == shown(json.loads(name))
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in gateway.audit_file.read_bytes())
    seen("allow; escaped in the audit")


async def test_c6_a_homoglyph_is_another_name(gateway: Gateway, denied: DeniedWith) -> None:
    message = {**TOOL_CALL, "params": {"name": "f\u0456nd_ticket"}}

    denied(
        await gateway.call(message=message, headers={**BINDING, **CALL}),
        "message_header_mismatch",
    )


# ---- C7: what is no request


@pytest.mark.parametrize("kind", KINDS)
async def test_c7_every_kind_of_message_is_named_and_needs_its_user(
    gateway: Gateway, seen: Seen, kind: str
) -> None:
    request, method, source = KINDS[kind]

    allowed = await gateway.call(**request)
    refused = await gateway.call(**{**request, "token": None})

    records = gateway.records()
    assert allowed.is_allow
    assert refused.reason == "token_missing"
    for record in records:
        assert (record["mcp_kind"], record["mcp_method"], record["mcp_source"]) == (
            kind,
            method,
            source,
        )
    seen("named; without a token deny token_missing")


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_c7_a_body_is_read_in_whichever_field_it_comes(
    gateway: Gateway, seen: Seen, encoding: Encoding
) -> None:
    await gateway.call(encoding=encoding)

    (record,) = gateway.records()
    assert (record["mcp_method"], record["mcp_target"]) == ("tools/call", "find_ticket")
    seen("named")
