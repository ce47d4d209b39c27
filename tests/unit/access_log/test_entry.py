"""What is read of an entry: the call's end, and nothing that could hold a credential."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz._protos.access_log_entry_pb2 import (
    AccessLogType,
    HTTPAccessLogEntry,
    ResponseFlags,
)
from ext_authz._protos.access_log_pb2 import StreamAccessLogsMessage
from ext_authz.access_log.entry import (
    MAX_ENTRIES,
    MAX_TEXT,
    Entry,
    Stage,
    Unreadable,
    read_entries,
)
from ext_authz.access_log.response_flags import SHORT_NAMES, short_names
from ext_authz.audit.canonical import canonical
from ext_authz.audit.ocsf import outcome_event
from ext_authz.audit.outcome import Outcome
from tests.unit.access_log.entries import DECISION, Plain, entry, message, refused

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIwMHUtYWxpY2UifQ.c2lnbmF0dXJlLW9mLW91cnM"


def read(plain: Plain) -> Entry:
    (only,) = read_entries(message(plain))
    return only


def test_an_allowed_call_that_was_answered() -> None:
    assert read(entry()) == Entry(
        stage=Stage.ENDED,
        outcome=Outcome(
            time=1795348800.25,
            decision_id=DECISION,
            reached_server=True,
            is_allowed=True,
            http_method="POST",
            http_status=200,
            upstream_status=200,
            response_flags=(),
            response_code_details="via_upstream",
            bytes_received=288,
            bytes_sent=318,
            milliseconds=118.479831,
            access_log_type="DownstreamEnd",
            route="crm",
            upstream_cluster="crm",
            request_id="r-1",
            client_address="192.0.2.7",
        ),
    )


def test_a_denied_call_never_reached_the_server() -> None:
    seen = read(refused())
    assert not seen.outcome.is_allowed
    assert not seen.outcome.is_bypass
    assert not seen.outcome.reached_server
    assert seen.outcome.upstream_status is None
    assert (seen.outcome.http_status, seen.outcome.response_flags) == (401, ("UAEX",))
    assert seen.outcome.decision_id == DECISION


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(entry(None), id="without any decision"),
        pytest.param(entry(verdict="deny"), id="though denied"),
        pytest.param(entry(verdict="document"), id="though answered by us"),
        pytest.param(entry("../../etc/passwd"), id="with an id that is none"),
    ],
)
def test_a_call_that_reached_the_server_without_an_allow_is_a_bypass(plain: Plain) -> None:
    assert read(plain).outcome.is_bypass


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(entry(), id="allowed and reached"),
        pytest.param(entry(upstream_wire_bytes_sent=0), id="allowed and not reached"),
        pytest.param(refused(None), id="the service was down"),
    ],
)
def test_any_other_is_none(plain: Plain) -> None:
    assert not read(plain).outcome.is_bypass


def test_a_server_that_did_not_answer_has_no_status_though_the_client_got_one() -> None:
    plain = entry()
    del plain["common_properties"]["time_to_first_upstream_rx_byte"]
    plain["response"]["response_code"] = 503
    seen = read(plain).outcome
    assert (seen.http_status, seen.upstream_status, seen.reached_server) == (503, None, True)


def test_a_client_that_left_before_any_answer_got_no_status() -> None:
    plain = entry(response_flags={"downstream_connection_termination": True})
    del plain["response"]["response_code"]
    seen = read(plain).outcome
    assert (seen.http_status, seen.upstream_status, seen.response_flags) == (None, None, ("DC",))


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("NotSet", Stage.ENDED),
        ("DownstreamEnd", Stage.ENDED),
        ("DownstreamStart", Stage.RUNNING),
        ("DownstreamPeriodic", Stage.RUNNING),
        ("DownstreamTunnelSuccessfullyEstablished", Stage.RUNNING),
    ],
)
def test_its_type_says_whether_the_call_goes_on(kind: str, stage: Stage) -> None:
    assert read(entry(access_log_type=kind)).stage is stage


def test_an_older_envoy_says_it_in_its_own_way() -> None:
    assert read(entry(access_log_type=0, intermediate_log_entry=True)).stage is Stage.RUNNING


KINDS = AccessLogType.DESCRIPTOR.values_by_name
OTHERS = [name for name in KINDS if not name.startswith(("Down", "NotSet"))]


@pytest.mark.parametrize("kind", [*OTHERS, 99])
def test_an_entry_of_anything_but_a_client_s_call_is_passed_over(kind: str | int) -> None:
    assert [*read_entries(message(entry(access_log_type=kind), entry()))] == [read(entry())]


def test_tcp_entries_and_empty_messages_hold_no_call() -> None:
    tcp_logs = b"\x1a\x04\x0a\x02\x0a\x00"
    assert [*read_entries(tcp_logs)] == [*read_entries(b"")] == []


def test_what_is_no_message_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        read_entries(b"\xff no protobuf")


def test_so_is_one_with_more_entries_than_envoy_could_put_into_it() -> None:
    most = StreamAccessLogsMessage()
    most.http_logs.log_entry.extend(HTTPAccessLogEntry() for _ in range(MAX_ENTRIES))
    assert next(read_entries(most.SerializeToString()))
    most.http_logs.log_entry.add()
    with pytest.raises(Unreadable):
        read_entries(most.SerializeToString())


def test_an_empty_entry_is_a_call_of_which_nothing_is_known() -> None:
    seen = read({})
    assert (seen.outcome.time, seen.outcome.decision_id, seen.outcome.http_method) == (
        0,
        None,
        None,
    )
    assert not seen.outcome.is_bypass


@pytest.mark.parametrize("field", ["route_name", "upstream_cluster"])
def test_texts_are_cut_short_and_hold_no_token(field: str) -> None:
    name = {"route_name": "route", "upstream_cluster": "upstream_cluster"}[field]
    assert getattr(read(entry(**{field: f"a {JWT}"})).outcome, name) == "a ***"
    assert len(getattr(read(entry(**{field: "x" * 9999})).outcome, name)) == MAX_TEXT


def test_so_are_the_request_s_id_and_the_details() -> None:
    plain = entry()
    plain["request"]["request_id"] = plain["response"]["response_code_details"] = f"{JWT} {JWT}"
    seen = read(plain).outcome
    assert "eyJ" not in f"{seen.request_id}{seen.response_code_details}"


def test_every_flag_of_ours_has_its_name() -> None:
    fields = ResponseFlags.DESCRIPTOR.fields_by_name
    assert SHORT_NAMES.keys() == set(fields)
    assert len(set(SHORT_NAMES.values())) == len(SHORT_NAMES)
    flags = ResponseFlags(upstream_connection_failure=True, downstream_remote_reset=True)
    assert short_names(flags) == ("UF", "DR")


@given(st.binary(max_size=200))
def test_bytes_of_anybody_are_unreadable_or_entries(junk: bytes) -> None:
    try:
        read_entries(junk)
    except Unreadable:
        return
    StreamAccessLogsMessage.FromString(junk)


extreme: st.SearchStrategy[Any] = st.sampled_from([-(2**63), -1, 0, 1, 2**53, 2**63 - 1])
huge = st.sampled_from([0, 1, 2**53 - 1, 2**53, 2**64 - 1])
nanos = st.integers(-(2**31), 2**31 - 1)


@given(seconds=extreme, duration=extreme, nanos=nanos, sent=huge, got=huge, text=st.text())
def test_whatever_its_figures_and_texts_the_audit_can_write_it(
    seconds: int, duration: int, nanos: int, sent: int, got: int, text: str
) -> None:
    """Written field by field: protobuf's JSON would refuse most of these times."""
    whole = StreamAccessLogsMessage.FromString(message(entry()))
    one = whole.http_logs.log_entry[0]
    common = one.common_properties
    common.start_time.seconds, common.start_time.nanos = seconds, nanos
    common.duration.seconds, common.duration.nanos = duration, nanos
    common.upstream_wire_bytes_sent, one.response.response_body_bytes = sent, got
    common.route_name = one.request.request_id = text
    common.downstream_remote_address.socket_address.address = text
    one.request.request_method = 99  # type: ignore[assignment]  # of a later Envoy
    (seen,) = read_entries(whole.SerializeToString())
    assert canonical(outcome_event(seen.outcome))
