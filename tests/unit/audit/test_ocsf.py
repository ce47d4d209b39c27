"""Events against OCSF's own rules, and against what docs/audit.md says of them."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.canonical import Event, canonical
from ext_authz.audit.chain import Head, link, unlink
from ext_authz.audit.ocsf import (
    LOG_KINDS,
    correction_event,
    decision_event,
    log_event,
    outcome_event,
    outcome_missing_event,
)
from ext_authz.audit.outcome import Outcome
from ext_authz.audit.record import AuditRecord
from ext_authz.exchange.access_token import Source
from ext_authz.leg import Leg
from ext_authz.reasons import Reason
from ext_authz.request.mcp_message import MessageKind, MessageSource
from ext_authz.verdict.answers import ANSWERS
from tests.unit.audit.examples import CASES, LOG, REACHED, allowed, denial, examples
from tests.unit.audit.ocsf_rules import SCHEMA, violations

EXAMPLES = examples()
FINGERPRINT = "0123abcd:" + "0" * 64
text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
maybe = st.none() | text
count = st.none() | st.integers(0, 2**53 - 1)
milliseconds = st.floats(0, 10**7)


def read(event: Event) -> dict[str, Any]:
    """The event as whoever reads the file has it."""
    found: dict[str, Any] = json.loads(canonical(event))
    return found


# ---- the rules of OCSF


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_of_event_is_one_of_ocsf(name: str) -> None:
    assert violations(read(EXAMPLES[name])) == []


legs = st.builds(
    Leg,
    number=st.sampled_from([1, 2]),
    milliseconds=milliseconds,
    status=st.none() | st.integers(100, 999),
    error=maybe,
    scope=st.lists(text, max_size=3).map(tuple),
    jti=maybe,
    expires_at=st.none() | st.integers(0, 10**400),
)
OF_ANOTHER_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "time": st.integers(0, 4 * 10**12),
    "milliseconds": milliseconds,
    "http_status": st.none() | st.sampled_from([401, 403, 502, 503]),
    "rpc_id": st.none() | text | st.integers(-(2**53) + 1, 2**53 - 1),
    "token_expires_at": count,
    "legs": st.lists(legs, max_size=4).map(tuple),
    "verdict": st.sampled_from(["allow", "deny", "document", "abandoned"]),
    "decision_id": text,
    "reason": st.none() | st.sampled_from([each.value for each in Reason]),
    "mcp_kind": st.none() | st.sampled_from([each.value for each in MessageKind]),
    "mcp_source": st.sampled_from([each.value for each in MessageSource]),
    "token_source": st.none() | st.sampled_from([each.value for each in Source]),
    "user_token_fingerprint": st.none() | st.just(FINGERPRINT),
    "id_jag_fingerprint": st.none() | st.just(FINGERPRINT),
    "access_token_fingerprint": st.none() | st.just(FINGERPRINT),
}
records = st.builds(
    AuditRecord,
    **{each.name: OF_ANOTHER_TYPE.get(each.name, maybe) for each in fields(AuditRecord)},
)


@given(records)
def test_whatever_a_record_holds_its_event_is_one_of_ocsf(record: AuditRecord) -> None:
    assert violations(read(decision_event(record))) == []


outcomes = st.builds(
    Outcome,
    time=st.floats(0, 4 * 10**9),
    decision_id=maybe,
    reached_server=st.booleans(),
    http_method=maybe,
    http_status=st.none() | st.integers(100, 599),
    upstream_status=st.none() | st.integers(100, 599),
    response_flags=st.lists(text, max_size=3).map(tuple),
    response_code_details=maybe,
    bytes_received=count,
    bytes_sent=count,
    milliseconds=st.none() | milliseconds,
    access_log_type=maybe,
    route=maybe,
    upstream_cluster=maybe,
    request_id=maybe,
    client_address=maybe,
)


@given(outcomes)
def test_whatever_an_outcome_holds_its_event_is_one_of_ocsf(outcome: Outcome) -> None:
    assert violations(read(outcome_event(outcome))) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"action_id": 5}, "action_id"),
        ({"action": "Denied"}, "action"),
        ({"duration": 1.5}, "duration"),
        ({"time_dt": "yesterday"}, "time_dt"),
        ({"src_endpoint": {}}, "src_endpoint"),
        ({"src_endpoint": {"ip": "not an address"}}, "src_endpoint.ip"),
        ({"api": {"version": "1"}}, "api.operation"),
        ({"verdict": "allow"}, "verdict"),
        ({"type_uid": 600301}, "type_uid"),
        ({"activity_id": 1}, "type_uid"),
        ({"resources": {"name": "x"}}, "resources"),
    ],
)
def test_the_rules_find_what_is_wrong(change: dict[str, Any], path: str) -> None:
    """Rules that find nothing prove nothing."""
    found = violations(read(EXAMPLES["allow (exchange)"]) | change)

    assert any(each.startswith(path) for each in found)


def test_the_rules_are_those_of_the_version_that_events_name() -> None:
    assert read(EXAMPLES["opened"])["metadata"]["version"] == SCHEMA["version"]


# ---- the chain's place in an event


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_chain_stands_last_and_leaves_the_line_canonical(name: str) -> None:
    """Else the line would not be RFC 8785's, whose names are sorted."""
    line, head = link(canonical(EXAMPLES[name]), Head.of_a_new_chain())

    assert canonical(json.loads(line)) == line.rstrip(b"\n")
    assert unlink(line.rstrip(b"\n")).head == head
    assert list(json.loads(line))[-1] == "unmapped"
    assert list(json.loads(line)["unmapped"])[-1] == "record_integrity"


# ---- decisions


@pytest.mark.parametrize("reason", Reason)
def test_a_denial_says_its_reason_where_ocsf_has_it(reason: Reason) -> None:
    event = read(decision_event(denial(reason)))

    assert event["status_code"] == reason.value
    assert event.get("status_detail", "") == CASES[reason].detail
    assert (event["action"], event["status"]) == ("Denied", "Failure")
    assert event["unmapped"]["reason_status"] == ANSWERS[reason].status


@pytest.mark.parametrize(
    ("reason", "disposition", "severity"),
    [
        (Reason.TOKEN_EXPIRED, "Unauthorized", 1),
        (Reason.POLICY_DENIED, "Unauthorized", 2),
        (Reason.AS_ANSWER_INVALID, "Error", 3),
        (Reason.AUDIT_SLOW, "Error", 3),
        (Reason.ABANDONED, "Abandoned", 2),
    ],
)
def test_whose_fault_a_denial_is_can_be_told(
    reason: Reason, disposition: str, severity: int
) -> None:
    event = read(decision_event(denial(reason)))

    assert (event["disposition"], event["severity_id"]) == (disposition, severity)


@pytest.mark.parametrize("source", Source)
def test_an_allow_says_who_used_what_and_how_the_token_was_come_by(source: Source) -> None:
    event = read(decision_event(allowed(source)))

    assert (event["action"], event["disposition"], event["status"]) == (
        "Allowed",
        "Allowed",
        "Success",
    )
    assert event["actor"] == {
        "user": {"uid": "alice", "domain": "https://idp.corp.example"},
        "session": {"uid": "s-1"},
        "app_uid": "desktop",
    }
    assert event["api"] == {
        "operation": "tools/call",
        "request": {"uid": "7"},
        "service": {"name": "crm", "uid": "https://crm.corp.example/mcp"},
        "version": "2026-07-28",
    }
    assert event["resources"] == [{"type": "tool", "name": "create_ticket"}]
    assert event["unmapped"]["exchange"]["source"] == source.value
    assert ("legs" in event["unmapped"]["exchange"]) is (source is not Source.CACHE)


def test_each_leg_is_told_in_its_order() -> None:
    event = read(decision_event(denial(Reason.ID_JAG_REFUSED)))

    told = [
        (leg["leg"], leg["status"], leg.get("error"), leg.get("jti"))
        for leg in event["unmapped"]["exchange"]["legs"]
    ]
    assert told == [
        (1, 200, None, "jti-1"),
        (2, 400, "invalid_grant", None),
        (1, 200, None, "jti-2"),
        (2, 400, "invalid_grant", None),
    ]


def test_a_leg_that_got_no_answer_has_no_status() -> None:
    event = read(decision_event(denial(Reason.IDP_UNAVAILABLE)))

    assert event["unmapped"]["exchange"]["legs"] == [{"leg": 1, "milliseconds": 28.125}]


@pytest.mark.parametrize("rpc_id", [7, "7"])
def test_the_type_of_a_json_rpc_id_is_not_lost(rpc_id: str | int) -> None:
    event = read(decision_event(replace(allowed(Source.CACHE), rpc_id=rpc_id)))

    assert event["api"]["request"] == {"uid": "7"}
    kind = "string" if isinstance(rpc_id, str) else "number"
    assert event["unmapped"]["mcp"]["rpc_id_type"] == kind


def test_a_method_that_ocsf_does_not_know_stands_elsewhere() -> None:
    event = read(decision_event(replace(denial(Reason.HTTP_METHOD_REFUSED), http_method="BREW")))

    assert "http_method" not in event["http_request"]
    assert event["unmapped"]["http_method"] == "BREW"


@pytest.mark.parametrize(
    "traceparent", ["", "00-0-0-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"]
)
def test_a_header_that_only_looks_like_a_trace_makes_none(traceparent: str) -> None:
    event = read(decision_event(replace(allowed(Source.CACHE), traceparent=traceparent)))

    assert "trace" not in event


def test_a_correction_is_of_the_decisions_id_and_shape_and_has_a_name_of_its_own() -> None:
    record = denial(Reason.AUDIT_SLOW)
    decision, correction = read(decision_event(record)), read(correction_event(record))

    assert decision["metadata"]["correlation_uid"] == correction["metadata"]["correlation_uid"]
    assert decision["metadata"]["uid"] != correction["metadata"]["uid"]
    assert correction["unmapped"]["event"] == "correction"
    assert decision.keys() == correction.keys()


def test_text_of_others_shows_with_its_escapes() -> None:
    event = read(decision_event(replace(allowed(Source.CACHE), mcp_target="\u0441reate\x1b[2J")))

    assert event["resources"][0]["name"] == r"\u0441reate\u001b[2J"


def test_the_events_hold_no_word_that_is_not_plain() -> None:
    assert all(re.fullmatch(r"[\x20-\x7e]*", each) for each in words(list(EXAMPLES.values())))


def words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from words(list(value.items()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from words(each)


# ---- outcomes


def test_an_outcome_names_the_decision_and_what_became_of_it() -> None:
    event = read(EXAMPLES["outcome of a call that reached nothing"])

    decision = read(EXAMPLES["allow (cache)"])
    assert event["metadata"]["correlation_uid"] == decision["metadata"]["correlation_uid"]
    assert (event["http_response"], event["status"]) == ({"code": 503}, "Failure")
    assert event["unmapped"]["outcome"]["reached_server"] is False
    assert event["unmapped"]["outcome"]["response_flags"] == ["UF"]


def test_a_call_that_reached_a_server_undecided_is_an_alert() -> None:
    event = read(EXAMPLES["outcome without a decision"])

    assert "correlation_uid" not in event["metadata"]
    assert (event["is_alert"], event["severity_id"]) == (True, 4)


def test_a_call_that_reached_a_server_although_we_denied_it_is_one_too() -> None:
    event = read(outcome_event(replace(REACHED, is_allowed=False)))

    assert (event["is_alert"], event["severity_id"]) == (True, 4)


def test_a_call_that_was_allowed_or_reached_nothing_is_none() -> None:
    refused = replace(REACHED, decision_id=None, reached_server=False, is_allowed=False)

    assert "is_alert" not in read(outcome_event(REACHED))
    assert "is_alert" not in read(outcome_event(refused))


def test_two_outcomes_of_one_decision_have_names_of_their_own() -> None:
    one, other = read(outcome_event(REACHED)), read(outcome_event(REACHED))

    assert one["metadata"]["uid"] != other["metadata"]["uid"]


def test_a_missing_outcome_says_how_long_it_was_waited_for() -> None:
    event = read(outcome_missing_event("d-1", seconds=3600.0, time=1_795_000_000.5))

    assert event["metadata"]["correlation_uid"] == "d-1"
    assert event["time"] == 1_795_000_000_500
    assert event["unmapped"] == {
        "event": "outcome_missing",
        "outcome_missing": {"after_seconds": 3600},
    }


# ---- what the log says of itself


@pytest.mark.parametrize("kind", sorted(LOG_KINDS))
def test_a_log_event_keeps_its_data_under_its_name(kind: str) -> None:
    event = read(log_event(kind, LOG[kind], time=1_795_000_000.25))

    assert event["class_uid"] == 0
    assert event["unmapped"] == {"event": kind, "log": {kind: dict(LOG[kind])}}
    assert event["time_dt"] == "2026-11-18T11:06:40.250+00:00"


def test_another_kind_is_not_written() -> None:
    with pytest.raises(ValueError, match="no kind"):
        log_event("decision", {}, time=0)
