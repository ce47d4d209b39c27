"""The record's schema in protos/: every line that we write can be read typed, and nothing is left over."""

import json
from typing import Any

import pytest
from google.protobuf import json_format

from ext_authz._protos.audit_event_pb2 import AuditEvent
from tests.unit.audit.examples import records

LINES = records()


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_every_line_is_read_without_a_field_that_is_unknown(line: bytes) -> None:
    """`Parse` refuses unknown names and values of another type."""
    event = json_format.Parse(line, AuditEvent())

    assert as_numbers(json_format.MessageToDict(event, preserving_proto_field_name=True)) == (
        without_defaults(json.loads(line))
    )


def test_a_line_with_a_name_more_is_refused() -> None:
    line = json.loads(LINES[0]) | {"more": 1}

    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(line, AuditEvent())


def test_what_a_record_says_can_be_asked_for_by_name() -> None:
    line = next(line for line in LINES if b'"status_code":"policy_denied"' in line)
    event = json_format.Parse(line, AuditEvent())

    assert event.actor.user.uid == "alice"
    assert event.unmapped.exchange.legs[0].error == "access_denied"
    assert event.unmapped.record_integrity.sequence > 0


def as_numbers(value: Any) -> Any:
    """Protobuf's JSON has 64-bit integers as texts; ours are numbers."""
    if isinstance(value, dict):
        return {
            name: int(each) if name in INT64 and isinstance(each, str) else as_numbers(each)
            for name, each in value.items()
        }
    return [as_numbers(each) for each in value] if isinstance(value, list) else value


INT64 = {
    *("type_uid", "time", "duration", "expires_at", "bytes_received", "bytes_sent"),
    *("sequence", "bytes", "records", "since", "first", "last"),
}
# The zero of what has no presence in proto3 reads as absence: it says the same.
ZEROS = {"activity_id", "category_uid", "class_uid", "severity_id", "type_uid", "sequence"}


def without_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: without_defaults(each)
            for name, each in value.items()
            if not (each == 0 and name in ZEROS) and each is not False and each != []
        }
    return [without_defaults(each) for each in value] if isinstance(value, list) else value
