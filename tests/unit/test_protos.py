"""Our subset of Envoy's API against envoy-data-plane, which is generated from Envoy's own.

Strategies draw a message as plain data in its JSON form. Both sides read and write that form, so
one value serves as what is written, by either, and as what the other must read.
"""

import base64
import importlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from betterproto2 import Casing
from betterproto2 import Message as EnvoyMessage
from envoy_data_plane.envoy.service.accesslog import v3 as envoy_access_log
from envoy_data_plane.envoy.service.auth import v3 as envoy
from envoy_data_plane.envoy.type.v3 import StatusCode
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_authz._protos.access_log_entry_pb2 import (
    AccessLogCommon,
    AccessLogType,
    HTTPAccessLogEntry,
    HTTPRequestProperties,
    HTTPResponseProperties,
    ResponseFlags,
)
from ext_authz._protos.access_log_pb2 import StreamAccessLogsMessage
from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.base_pb2 import (
    Address,
    HeaderMap,
    HeaderValue,
    HeaderValueOption,
    Metadata,
    SocketAddress,
)
from ext_authz._protos.external_auth_pb2 import (
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    OkHttpResponse,
)
from ext_authz._protos.external_auth_pb2_grpc import (
    AuthorizationServicer,
    AuthorizationStub,
    add_AuthorizationServicer_to_server,
)
from ext_authz._protos.http_status_pb2 import HttpStatus
from ext_authz._protos.rpc_status_pb2 import Status

ROOT = Path(__file__).parents[2]
CHECK = "/envoy.service.auth.v3.Authorization/Check"

Plain = dict[str, Any]

# Envoy's own classes warn of these fields: Envoy still obeys the one, and older ones send the other.
pytestmark = [
    pytest.mark.filterwarnings("ignore:HeaderValueOption.append is deprecated"),
    pytest.mark.filterwarnings("ignore:AccessLogCommon.intermediate_log_entry is deprecated"),
]


# ---- one strategy for each message


def message(kind: type[Message], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Plain]:
    """All fields of `kind`, or any of them. Each must be given here: none stays untested."""
    assert fields.keys() == set(kind.DESCRIPTOR.fields_by_name)
    return st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional=fields)


def rfc3339(seconds: int, micros: int) -> str:
    return Timestamp(seconds=seconds, nanos=micros * 1000).ToJsonString()


def duration_json(seconds: int, micros: int) -> str:
    return Duration(seconds=seconds, nanos=micros * 1000).ToJsonString()


def some(each: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(each, min_size=1, max_size=3)


def named(each: st.SearchStrategy[Any]) -> st.SearchStrategy[Plain]:
    return st.dictionaries(st.text(max_size=8), each, min_size=1, max_size=3)


def flags_set(names: set[str]) -> Plain:
    """All but one are plain booleans."""
    refused = {"reason": "EXTERNAL_SERVICE"}
    return {name: refused if name == "unauthorized_details" else True for name in names}


# Without presence, a scalar's zero is the same as its absence: only other values are drawn.
text = st.text(min_size=1, max_size=20)
blob = st.binary(min_size=1, max_size=20).map(lambda raw: base64.b64encode(raw).decode())
int32 = st.integers(-(2**31), 2**31 - 1).filter(bool)
int64 = st.integers(-(2**63), 2**63 - 1).filter(bool).map(str)
uint64 = st.integers(1, 2**64 - 1).map(str)
timestamp = st.builds(rfc3339, st.integers(0, 2**32), st.integers(0, 999_999))
# In eighths of a second: the classes made for Envoy's read a duration through a float.
eighth = st.integers(0, 7).map(lambda eighths: eighths * 125_000)
duration = st.builds(duration_json, st.integers(0, 2**32), eighth)
json_value = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
struct = st.dictionaries(st.text(), json_value, max_size=3)

socket_address = message(SocketAddress, address=text, port_value=st.integers(0, 2**32 - 1))
address = message(Address, socket_address=socket_address)
metadata = message(Metadata, filter_metadata=named(struct))
header_value = message(HeaderValue, key=text, value=text, raw_value=blob)
header_map = message(HeaderMap, headers=some(header_value))
header_option = message(
    HeaderValueOption,
    header=header_value,
    append=st.booleans(),
    append_action=st.sampled_from(HeaderValueOption.HeaderAppendAction.keys()[1:]),
)

peer = message(AttributeContext.Peer, address=address, principal=text)
http_request = message(
    AttributeContext.HttpRequest,
    id=text,
    method=text,
    headers=named(st.text()),
    header_map=header_map,
    path=text,
    host=text,
    scheme=text,
    query=text,
    fragment=text,
    size=int64,
    protocol=text,
    body=text,
    raw_body=blob,
)
request = message(AttributeContext.Request, time=timestamp, http=http_request)
attributes = message(
    AttributeContext,
    source=peer,
    destination=peer,
    request=request,
    context_extensions=named(st.text()),
    metadata_context=metadata,
    route_metadata_context=metadata,
)
check_request = message(CheckRequest, attributes=attributes)

status_code = (st.sampled_from(list(StatusCode)).map(int) | int32).filter(bool)
http_status = message(HttpStatus, code=status_code)
denied_response = message(
    DeniedHttpResponse, status=http_status, headers=some(header_option), body=text
)
ok_response = message(
    OkHttpResponse,
    headers=some(header_option),
    headers_to_remove=some(st.text()),
    response_headers_to_add=some(header_option),
)
rpc_status = message(Status, code=int32, message=text)
check_response = {
    "status": rpc_status,
    "denied_response": denied_response,
    "ok_response": ok_response,
    "error_response": denied_response,
    "dynamic_metadata": struct,
}
assert check_response.keys() == set(CheckResponse.DESCRIPTOR.fields_by_name)

flag = st.sampled_from(sorted(ResponseFlags.DESCRIPTOR.fields_by_name))
response_flags = st.sets(flag, min_size=1).map(flags_set)  # drawn one by one they are too many
access_log_common = message(
    AccessLogCommon,
    downstream_remote_address=address,
    start_time=timestamp,
    time_to_first_upstream_rx_byte=duration,
    upstream_cluster=text,
    response_flags=response_flags,
    metadata=metadata,
    route_name=text,
    duration=duration,
    intermediate_log_entry=st.just(value=True),
    upstream_wire_bytes_sent=uint64,
    access_log_type=st.sampled_from(AccessLogType.keys()[1:]),
)
http_request_properties = message(
    HTTPRequestProperties,
    request_method=st.sampled_from(HTTPRequestProperties.Method.keys()[1:]),
    request_id=text,
    request_body_bytes=uint64,
)
http_response_properties = message(
    HTTPResponseProperties,
    response_code=st.integers(0, 2**32 - 1),
    response_body_bytes=uint64,
    response_code_details=text,
)
access_log_entry = message(
    HTTPAccessLogEntry,
    common_properties=access_log_common,
    request=http_request_properties,
    response=http_response_properties,
)
access_log_message = message(
    StreamAccessLogsMessage,
    http_logs=message(
        StreamAccessLogsMessage.HTTPAccessLogEntries,
        log_entry=st.lists(access_log_entry, min_size=1, max_size=2),
    ),
)


@st.composite
def access_log_messages(draw: st.DrawFn) -> Plain:
    """The same under a name: spelt out it is too long for Hypothesis to show, and it warns of that."""
    drawn: Plain = draw(access_log_message)
    return drawn


def responses_with(form: str) -> st.SearchStrategy[Plain]:
    """Any response with this field, and with at most this one of the exclusive fields."""
    exclusive = {field.name for field in CheckResponse.DESCRIPTOR.oneofs[0].fields}
    beside = check_response.keys() - exclusive - {form}
    optional = {name: check_response[name] for name in sorted(beside)}
    return st.fixed_dictionaries({form: check_response[form]}, optional=optional)


# ---- the two sides


def we_write(kind: type[Message], plain: Plain) -> bytes:
    return ParseDict(plain, kind()).SerializeToString()


def we_read(kind: type[Message], wire: bytes) -> Plain:
    return MessageToDict(kind.FromString(wire), preserving_proto_field_name=True)


def envoy_writes(kind: type[EnvoyMessage], plain: Plain) -> bytes:
    return bytes(kind.from_dict(plain))


def envoy_reads(kind: type[EnvoyMessage], wire: bytes) -> Plain:
    return by_number(kind.parse(wire).to_dict(casing=Casing.SNAKE))


def by_number(plain: Plain) -> Plain:
    """Envoy's classes show a status code that they know by its name; we show the number."""
    for form in ("denied_response", "error_response"):
        status = plain.get(form, {}).get("status", {})
        if status.get("code") in StatusCode.__members__:
            status["code"] = StatusCode[status["code"]].value
    return plain


# ---- the tests

# Enough to meet each field many times; no deadline, since the first example builds the validators.
quick = settings(deadline=None, max_examples=40)

every_message = pytest.mark.parametrize(
    ("ours", "envoys", "plains"),
    [
        pytest.param(CheckRequest, envoy.CheckRequest, check_request, id="request"),
        pytest.param(
            StreamAccessLogsMessage,
            envoy_access_log.StreamAccessLogsMessage,
            access_log_messages(),
            id="access log",
        ),
        *(
            pytest.param(CheckResponse, envoy.CheckResponse, responses_with(form), id=form)
            for form in check_response
        ),
    ],
)


@every_message
@given(data=st.data())
@quick
def test_what_envoy_writes_we_read(
    ours: type[Message],
    envoys: type[EnvoyMessage],
    plains: st.SearchStrategy[Plain],
    data: st.DataObject,
) -> None:
    plain = data.draw(plains)
    assert we_read(ours, envoy_writes(envoys, plain)) == plain


@every_message
@given(data=st.data())
@quick
def test_what_we_write_envoy_reads(
    ours: type[Message],
    envoys: type[EnvoyMessage],
    plains: st.SearchStrategy[Plain],
    data: st.DataObject,
) -> None:
    plain = data.draw(plains)
    assert envoy_reads(envoys, we_write(ours, plain)) == plain


@given(attributes, peer)
@quick
def test_fields_that_we_left_out_are_read_past_and_kept(known: Plain, source: Plain) -> None:
    """Envoy sends them when so configured; declaring one later must not be a repair."""
    left_out = {"service": "agent", "labels": {"app": "a"}, "certificate": "-----BEGIN"}
    known = known | {"source": source}
    whole = known | {"source": source | left_out, "tls_session": {"sni": "mcp.corp.example"}}
    wire = envoy_writes(envoy.AttributeContext, whole)
    assert we_read(AttributeContext, wire) == known
    kept = AttributeContext.FromString(wire).SerializeToString()
    assert envoy_reads(envoy.AttributeContext, kept) == whole


def test_what_envoy_says_of_itself_and_of_tcp_is_read_past() -> None:
    """And of a call, its path and headers: they may hold tokens, and we have no field for them."""
    tls = {"common_properties": {"tls_properties": {"tls_sni_hostname": "mcp.corp.example"}}}
    request = {"path": "/crm?token=a", "request_headers": {"cookie": "a"}, "request_id": "r-1"}
    plain = {
        "identifier": {"node": {"id": "mcp-gateway"}, "log_name": "mcp-ext-authz"},
        "http_logs": {"log_entry": [{**tls, "protocol_version": "HTTP2", "request": request}]},
    }
    wire = envoy_writes(envoy_access_log.StreamAccessLogsMessage, plain)
    entry = {"common_properties": {}, "request": {"request_id": "r-1"}}
    assert we_read(StreamAccessLogsMessage, wire) == {"http_logs": {"log_entry": [entry]}}

    tcp = {"tcp_logs": {"log_entry": [{"common_properties": {"route_name": "crm"}}]}}
    wire = envoy_writes(envoy_access_log.StreamAccessLogsMessage, tcp)
    assert we_read(StreamAccessLogsMessage, wire) == {}


@given(check_request)
@quick
def test_a_field_of_a_later_envoy_is_read_past(plain: Plain) -> None:
    field_1000 = b"\xc2\x3e\x05later"
    wire = envoy_writes(envoy.CheckRequest, plain) + field_1000
    assert we_read(CheckRequest, wire) == plain


def test_a_peer_on_a_unix_socket_has_no_socket_address() -> None:
    """Envoy then sets a member of the oneof that we left out."""
    wire = envoy_writes(envoy.AttributeContextPeer, {"address": {"pipe": {"path": "/run/sock"}}})
    seen = AttributeContext.Peer.FromString(wire)
    assert seen.HasField("address")
    assert not seen.address.HasField("socket_address")


class Allowing(AuthorizationServicer):
    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:
        host = request.attributes.request.http.host
        return CheckResponse(ok_response=OkHttpResponse(headers_to_remove=[host]))


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    """Call a server of ours."""
    server = grpc.server(ThreadPoolExecutor(1))
    add_AuthorizationServicer_to_server(Allowing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


QUESTION: Plain = {"attributes": {"request": {"http": {"host": "mcp.corp.example"}}}}
ANSWER: Plain = {"ok_response": {"headers_to_remove": ["mcp.corp.example"]}}


def test_check_is_served_where_envoy_calls_it(channel: grpc.Channel) -> None:
    """Raw bytes to a literal path: nothing generated by us stands on the caller's side."""
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
    wire = check(envoy_writes(envoy.CheckRequest, QUESTION), timeout=5)
    assert envoy_reads(envoy.CheckResponse, wire) == ANSWER


def test_our_stub_calls_it_there_too(channel: grpc.Channel) -> None:
    answer = AuthorizationStub(channel).Check(ParseDict(QUESTION, CheckRequest()), timeout=5)
    assert we_read(CheckResponse, answer.SerializeToString()) == ANSWER


@pytest.fixture
def compile_protos(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "protos")
    return importlib.import_module("compile")


def test_the_generated_code_is_what_protos_describes(compile_protos: ModuleType) -> None:
    assert compile_protos.stale() == []


def test_changed_missing_and_left_over_files_are_named(
    compile_protos: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = Path("ext_authz/_protos")
    shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(compile_protos, "ROOT", tmp_path)
    differing = [package / name for name in ("base_pb2.py", "gone_pb2.py", "http_status_pb2.py")]
    (tmp_path / differing[0]).write_text("# edited by hand\n")
    (tmp_path / differing[1]).write_text("# its .proto is no more\n")
    (tmp_path / differing[2]).unlink()
    assert compile_protos.stale() == differing
    compile_protos.write(compile_protos.compiled())
    assert compile_protos.stale() == []
