"""The facts of a request, whatever Envoy was told to write and whatever the client sent."""

import contextlib
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.external_auth_pb2 import CheckRequest
from ext_authz.reasons import Reason
from ext_authz.request.facts import METADATA_PATH, RequestFacts, read_facts
from tests.unit.check_requests import CLIENT, Encoding, check_request, header_map
from tests.unit.stage_outcomes import outcome
from tests.unit.trails import facts

WHOLE_BODY = {"x-envoy-auth-partial-body": "false"}

name = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.:", min_size=1, max_size=12)
value = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=20)
text = st.text(st.characters(codec="utf-8"), max_size=20)
any_headers = st.dictionaries(name | text, value | text, max_size=4)
any_request = st.builds(
    check_request,
    method=st.sampled_from(["", "GET", "POST", "CONNECT"]) | text,
    path=st.sampled_from(["", "/", "*", "//"]) | text | text.map("/".__add__),
    host=text,
    headers=any_headers | any_headers.map(WHOLE_BODY.__or__),
    body=text,
    extensions=st.dictionaries(text, text, max_size=2),
    encoding=st.sampled_from(Encoding),
)


def test_the_facts_are_those_that_envoy_states() -> None:
    request = check_request(
        path="/crm/mcp?a=b?c",
        host="MCP.corp.example:8443",
        headers={"accept": "*/*"} | WHOLE_BODY,
        body='{"é":1}',
        extensions={"mcp.server": "crm"},
    )

    assert read_facts(request) == RequestFacts(
        http_method="POST",
        path="/crm/mcp",
        query="a=b?c",
        host="mcp.corp.example:8443",
        headers={"accept": "*/*", "x-envoy-auth-partial-body": "false"},
        body='{"é":1}'.encode(),
        extensions={"mcp.server": "crm"},
        source_address=CLIENT,
    )


@given(headers=st.dictionaries(name, value, max_size=5), body=text)
@example(headers={"x": ""}, body="")
def test_every_encoding_gives_the_same_facts(headers: dict[str, str], body: str) -> None:
    each = [
        read_facts(check_request(headers=headers | WHOLE_BODY, body=body, encoding=encoding))
        for encoding in Encoding
    ]

    assert each[0] == each[1] == each[2]
    assert each[0].headers == headers | WHOLE_BODY
    assert each[0].body == body.encode()


@given(any_request)
def test_any_request_has_facts_or_is_denied(request: CheckRequest) -> None:
    found = outcome(read_facts, request)

    if found is not Reason.REQUEST_MALFORMED:
        assert isinstance(found, RequestFacts)
        assert found.path.startswith("/")
        assert all(name == name.lower() for name in found.headers)


@given(st.binary(max_size=60), any_request, st.integers(0, 200))
def test_any_bytes_that_are_a_request_have_facts_or_are_denied(
    noise: bytes, request: CheckRequest, at: int
) -> None:
    document = request.SerializeToString()
    with contextlib.suppress(DecodeError):
        spoilt = CheckRequest.FromString(document[:at] + noise + document[at:])

        assert outcome(read_facts, spoilt)


@pytest.mark.parametrize(
    "path", ["", "crm/mcp", "*", "?a=b", "http://mcp.corp.example/crm", "mcp.corp.example:443"]
)
def test_without_an_absolute_path_it_is_denied(path: str) -> None:
    assert outcome(read_facts, check_request(path=path)) is Reason.REQUEST_MALFORMED


def test_without_a_method_it_is_denied() -> None:
    assert outcome(read_facts, check_request(method="")) is Reason.REQUEST_MALFORMED


def test_an_empty_request_is_denied() -> None:
    assert outcome(read_facts, CheckRequest()) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize(
    "path",
    ["//crm", "/a/../crm", "/..;/crm", "/a%2fcrm", "/%2e%2e/crm", "/crm;a=b", "/crm#x", "/\\"],
)
def test_a_path_is_neither_cleaned_nor_cut(path: str) -> None:
    assert read_facts(check_request(path=path)).path == path


def test_repeated_headers_are_joined_as_envoy_joins_them() -> None:
    request = check_request()
    request.attributes.request.http.header_map.CopyFrom(
        header_map(("Authorization", b"one"), ("x", b""), ("authorization", b"two"), ("x", b""))
    )

    assert read_facts(request).headers == {"authorization": "one,two", "x": ","}


def test_header_names_are_in_lower_case() -> None:
    assert read_facts(check_request(headers={"X-Any": "Value"})).headers == {"x-any": "Value"}


def test_names_that_differ_in_case_are_one_header() -> None:
    found = read_facts(check_request(headers={"X": "a", "x": "b"})).headers

    assert found.keys() == {"x"}
    assert sorted(found["x"].split(",")) == ["a", "b"]


def test_headers_in_both_encodings_are_denied() -> None:
    request = check_request(headers={"x": "a"})
    request.attributes.request.http.header_map.CopyFrom(header_map(("x", b"b")))

    assert outcome(read_facts, request) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("folded", ["a\0b", "a\rb", "a\nb", "a\r\n b", "a\n\tb"])
def test_a_control_character_in_a_header_is_denied(encoding: Encoding, folded: str) -> None:
    request = check_request(headers={"x": folded}, encoding=encoding)

    assert outcome(read_facts, request) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("place", [{"method": "GET"}, {"path": "/crm"}, {"host": "h"}])
@pytest.mark.parametrize("breaker", ["\0", "\r", "\n"])
def test_so_is_one_in_method_path_or_host(place: dict[str, Any], breaker: str) -> None:
    broken = {name: value + breaker for name, value in place.items()}

    assert outcome(read_facts, check_request(**broken)) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"caf\xe9"])
def test_a_header_that_is_not_utf_8_is_denied(raw: bytes) -> None:
    request = check_request()
    request.attributes.request.http.header_map.CopyFrom(header_map(("x", raw)))

    assert outcome(read_facts, request) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("partial", [None, "true", "False", "", "true,false", "false,false"])
def test_a_body_that_may_be_partial_is_not_seen(partial: str | None) -> None:
    headers = {} if partial is None else {"x-envoy-auth-partial-body": partial}

    assert read_facts(check_request(headers=headers, body="{}")).body is None


def test_an_empty_body_is_seen() -> None:
    assert read_facts(check_request(headers=WHOLE_BODY)).body == b""


def test_a_body_of_any_bytes_is_seen() -> None:
    request = check_request(headers=WHOLE_BODY)
    request.attributes.request.http.raw_body = b"\xff\0"

    assert read_facts(request).body == b"\xff\0"


def test_nothing_in_the_facts_is_protobuf_any_more() -> None:
    request = check_request(headers={"x": "y"}, extensions={"mcp.server": "crm"})
    found = read_facts(request)
    request.attributes.context_extensions["mcp.server"] = "wiki"
    request.attributes.request.CopyFrom(AttributeContext.Request())

    assert (found.extensions, found.headers) == ({"mcp.server": "crm"}, {"x": "y"})


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("rest", ["", "/", "/crm/mcp"])
def test_resource_metadata_is_asked_for_at_its_well_known_path(method: str, rest: str) -> None:
    assert facts(http_method=method, path=METADATA_PATH + rest).asks_for_resource_metadata


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", METADATA_PATH),
        ("DELETE", METADATA_PATH),
        ("get", METADATA_PATH),
        ("GET", METADATA_PATH + "-of-mine"),
        ("GET", METADATA_PATH.upper()),
        ("GET", "/crm" + METADATA_PATH),
        ("GET", "/" + METADATA_PATH),
        ("GET", "/crm/mcp"),
    ],
)
def test_resource_metadata_is_asked_for_nowhere_else(method: str, path: str) -> None:
    assert not facts(http_method=method, path=path).asks_for_resource_metadata
