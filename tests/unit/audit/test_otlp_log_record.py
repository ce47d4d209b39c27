"""What a collector is given of each record."""

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from ext_authz import __version__
from ext_authz.audit.canonical import canonical
from ext_authz.audit.chain import Head, link, unlink
from ext_authz.audit.otlp.follower import Record
from ext_authz.audit.otlp.log_record import export_request

OBSERVED = 1_795_000_001.5
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FAR = b'{"http_response":{"code":18446744073709551615},"time":253402300799999}'
DECISION: Mapping[str, Any] = {
    "action_id": 2,
    "actor": {"user": {"uid": "ann", "domain": "https://idp.example"}, "app_uid": "agent-7"},
    "api": {
        "operation": "tools/call",
        "request": {"uid": "17"},
        "service": {"name": "crm", "uid": "https://crm.example/mcp"},
        "version": "2026-07-28",
    },
    "http_request": {"http_method": "POST", "url": {"path": "/crm/mcp"}, "uid": "r-1"},
    "metadata": {"correlation_uid": "d-1", "log_name": "decision"},
    "resources": [{"type": "tool", "name": "close_ticket"}],
    "severity_id": 1,
    "src_endpoint": {"ip": "192.0.2.7"},
    "status_code": "scope_denied",
    "time": 1_795_000_000_123,
    "unmapped": {
        "event": "decision",
        "decision": {"verdict": "deny", "traceparent": f"00-{TRACE}-{SPAN}-01"},
    },
}


def record(event: Mapping[str, Any], head: Head | None = None) -> Record:
    line, after = link(canonical(event), head or Head.of_a_new_chain())
    return Record(line=line[:-1], head=after)


def request_of(*records: Record) -> ExportLogsServiceRequest:
    return ExportLogsServiceRequest.FromString(export_request(records, observed=OBSERVED))


def log_of(event: Mapping[str, Any]) -> LogRecord:
    (resource,) = request_of(record(event)).resource_logs
    (scope,) = resource.scope_logs
    (log,) = scope.log_records
    return log


def pairs(attributes: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for attribute in attributes:
        assert isinstance(attribute, KeyValue)
        assert attribute.key not in found
        kind = attribute.value.WhichOneof("value")
        assert kind is not None
        found[attribute.key] = getattr(attribute.value, kind)
    return found


def test_the_body_is_the_line_and_still_proves_itself() -> None:
    sent = record(DECISION)
    (resource,) = request_of(sent).resource_logs
    body = resource.scope_logs[0].log_records[0].body.string_value.encode()

    assert body == sent.line
    assert unlink(body).is_intact


def test_what_one_searches_by_has_the_names_of_the_conventions() -> None:
    sent = record(DECISION)
    (resource,) = request_of(sent).resource_logs
    found = pairs(resource.scope_logs[0].log_records[0].attributes)

    assert found == {
        "log.record.uid": f"{sent.head.chain_uid}/0/{sent.head.fingerprint[:16]}",
        "mcp_ext_authz.chain.uid": sent.head.chain_uid,
        "mcp_ext_authz.chain.sequence": 0,
        "mcp_ext_authz.chain.fingerprint": sent.head.fingerprint,
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "gen_ai.tool.name": "close_ticket",
        "jsonrpc.request.id": "17",
        "client.address": "192.0.2.7",
        "http.request.method": "POST",
        "url.path": "/crm/mcp",
        "user.id": "ann",
        "error.type": "scope_denied",
        "mcp_ext_authz.decision_id": "d-1",
        "mcp_ext_authz.verdict": "deny",
        "mcp_ext_authz.server": "crm",
        "mcp_ext_authz.resource": "https://crm.example/mcp",
        "mcp_ext_authz.issuer": "https://idp.example",
        "mcp_ext_authz.agent": "agent-7",
        "mcp_ext_authz.request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("kind", "name"), [("prompt", "gen_ai.prompt.name"), ("resource", "mcp.resource.uri")]
)
def test_what_the_message_is_about_is_named_for_its_type(kind: str, name: str) -> None:
    found = pairs(log_of({**DECISION, "resources": [{"type": kind, "name": "x"}]}).attributes)

    assert found[name] == "x"
    assert "gen_ai.tool.name" not in found


def test_an_outcome_says_what_became_of_the_call() -> None:
    outcome = {
        "http_response": {"code": 502},
        "severity_id": 1,
        "unmapped": {"event": "outcome", "outcome": {"reached_server": False}},
    }
    log = log_of(outcome)
    found = pairs(log.attributes)

    assert log.event_name == "mcp_ext_authz.outcome"
    assert found["http.response.status_code"] == 502
    assert found["mcp_ext_authz.reached_server"] is False


def test_what_nobody_knows_is_no_attribute() -> None:
    event = {**DECISION, "api": {"operation": "Unknown"}}
    assert "mcp.method.name" not in pairs(log_of(event).attributes)


@pytest.mark.parametrize(
    ("members", "severity"),
    [
        ({"action_id": 1, "severity_id": 1}, "INFO"),
        ({"action_id": 2, "severity_id": 1}, "WARN"),
        ({"action_id": 3, "severity_id": 3}, "WARN"),
        ({"severity_id": 4}, "ERROR"),
        ({"severity_id": 1}, "INFO"),
        ({}, "ERROR"),
    ],
)
def test_severity_follows_the_verdict_and_ocsfs(members: dict[str, int], severity: str) -> None:
    log = log_of({**members, "unmapped": {"event": "decision"}})

    assert log.severity_text == severity
    assert log.severity_number == SeverityNumber.Value(f"SEVERITY_NUMBER_{severity}")


def test_time_is_the_events_own() -> None:
    log = log_of(DECISION)

    assert log.time_unix_nano == 1_795_000_000_123_000_000
    assert log.observed_time_unix_nano == int(OBSERVED * 1e9)


def test_the_callers_trace_is_joined() -> None:
    log = log_of(DECISION)

    assert (log.trace_id.hex(), log.span_id.hex(), log.flags) == (TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "header",
    ["", "00-x", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"01-{TRACE}-{SPAN}-01"],
)
def test_a_header_that_is_no_trace_joins_none(header: str) -> None:
    unmapped = {"event": "decision", "decision": {"traceparent": header}}
    log = log_of({**DECISION, "unmapped": unmapped})

    assert (log.trace_id, log.span_id, log.flags) == (b"", b"", 0)


def test_each_chain_is_an_instance_of_the_service() -> None:
    first = record(DECISION)
    second = record(DECISION, first.head)
    other = record(DECISION)
    resources = request_of(first, second, other).resource_logs

    assert [len(resource.scope_logs[0].log_records) for resource in resources] == [2, 1]
    assert pairs(resources[1].resource.attributes) == {
        "service.name": "mcp-ext-authz",
        "service.version": __version__,
        "service.instance.id": other.head.chain_uid,
    }


@pytest.mark.parametrize(
    "line",
    [b"no json", b"[]", b'"text"', b'{"time":-1}', b'{"time":1e99}', b"\xff\x00", b"{}", FAR],
)
def test_a_line_that_somebody_spoiled_is_sent_as_it_stands(line: bytes) -> None:
    head = Head("a" * 32, 7, "b" * 64)
    (resource,) = request_of(Record(line=line, head=head)).resource_logs
    (log,) = resource.scope_logs[0].log_records

    assert log.event_name == "mcp_ext_authz.unreadable"
    assert log.severity_text == "ERROR"
    assert log.time_unix_nano == log.observed_time_unix_nano
    assert log.body.string_value == line.decode("utf-8", errors="backslashreplace")
