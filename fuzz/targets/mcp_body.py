"""MCP bodies and the headers that mirror them: what is accepted, other parsers read alike."""

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ext_authz.reasons import Denied, Reason
from ext_authz.request.mcp_message import TARGETS, McpMessage, MessageSource, read_message
from ext_authz.strict_json import parse
from fuzz.http_text import HttpText, read_http
from tests.unit.trails import facts

REASONS: Final = {
    Reason.HTTP_METHOD_REFUSED,
    Reason.MESSAGE_MALFORMED,
    Reason.MESSAGE_HEADER_MISMATCH,
}


def one_input(data: bytes) -> None:
    text = read_http(data)
    if text is None:
        return
    try:
        message = read_message(facts(http_method=text.first, headers=text.headers, body=text.body))
    except Denied as denied:
        assert denied.reason in REASONS
        return
    _assert_read_where_it_says(message, text)


def _assert_read_where_it_says(message: McpMessage, text: HttpText) -> None:
    assert not isinstance(message.rpc_id, bool)
    match message.source:
        case MessageSource.BODY:
            assert text.body is not None
            _assert_read_alike(message, text.body)
            assert text.headers.get("mcp-method", message.method) == message.method
        case MessageSource.HEADER:
            assert text.body is None
            assert message.method == text.headers["mcp-method"]
        case MessageSource.NONE:
            assert (message.method, message.target, message.rpc_id) == (None, None, None)


def _assert_read_alike(message: McpMessage, body: bytes) -> None:
    ours = (message.method, message.target, message.rpc_id)
    document = json.loads(body, object_pairs_hook=_members)
    for read in (document, orjson.loads(body)):
        assert repr(_what_is_asked(read)) == repr(ours)
    assert parse(json.dumps(document).encode()) == document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _what_is_asked(document: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    method = document.get("method")
    named = TARGETS.get(method) if method else None
    target = document["params"][named] if named else None
    return method, target, document.get("id")
