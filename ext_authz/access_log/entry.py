"""One entry of Envoy's gRPC access log, read: protobuf ends here.

Each value is bounded, since the audit takes only what has a canonical form. No path and no header is
read, save the request's id.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from ext_authz._protos.access_log_entry_pb2 import (
    AccessLogCommon,
    AccessLogType,
    HTTPAccessLogEntry,
    HTTPRequestProperties,
    HTTPResponseProperties,
)
from ext_authz._protos.access_log_pb2 import StreamAccessLogsMessage
from ext_authz.access_log.response_flags import short_names
from ext_authz.audit.outcome import Outcome
from ext_authz.secret import without_tokens

MAX_TEXT: Final = 256
MAX_ENTRIES: Final = 16_384  # of one message: Envoy's have 256 bytes at least, and gRPC takes 4 MiB
_FILTER: Final = "envoy.filters.http.ext_authz"
_DECISION_ID: Final = re.compile(r"[0-9a-f]{32}")
_ALLOW: Final = "allow"
_MAX_SECONDS: Final = 2**32  # the year 2106: what lies beyond is no time of a call
_MAX_COUNT: Final = 2**53 - 1
_MILLION: Final = 1_000_000


class Unreadable(Exception):
    """A message that is none of Envoy's access log."""


class Stage(Enum):
    """Where the call stood when Envoy wrote the entry."""

    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call, as Envoy tells of it: running still, or over."""

    stage: Stage
    outcome: Outcome


def read_entries(message: bytes) -> Iterator[Entry]:
    """The calls that one message tells of; others' entries, TCP's among them, are passed over.

    Each is read when it is asked for: what a message can hold would fill the memory, and take seconds.
    Raises `Unreadable` where it is no `StreamAccessLogsMessage`, or none that Envoy could have written.
    """
    try:
        entries = StreamAccessLogsMessage.FromString(message).http_logs.log_entry
    except DecodeError:
        raise Unreadable from None
    if len(entries) > MAX_ENTRIES:
        raise Unreadable
    return (_entry(entry, stage) for entry in entries if (stage := _stage(entry)))


def _stage(entry: HTTPAccessLogEntry) -> Stage | None:
    """None for what is not the client's side of a call: a try upstream is part of a call."""
    common = entry.common_properties
    match common.access_log_type:
        case AccessLogType.NotSet:
            return Stage.RUNNING if common.intermediate_log_entry else Stage.ENDED
        case AccessLogType.DownstreamEnd:
            return Stage.ENDED
        case (
            AccessLogType.DownstreamStart
            | AccessLogType.DownstreamPeriodic
            | AccessLogType.DownstreamTunnelSuccessfullyEstablished
        ):
            return Stage.RUNNING
        case _:
            return None


def _entry(entry: HTTPAccessLogEntry, stage: Stage) -> Entry:
    common, request, response = entry.common_properties, entry.request, entry.response
    ours = common.metadata.filter_metadata.get(_FILTER, Struct())
    decision_id = _decision_id(ours)
    outcome = Outcome(
        time=_seconds(common),
        decision_id=decision_id,
        reached_server=common.upstream_wire_bytes_sent > 0,
        is_allowed=decision_id is not None and _string(ours, "verdict") == _ALLOW,
        http_method=_method(request),
        http_status=_status(response),
        upstream_status=_upstream_status(common, response),
        response_flags=short_names(common.response_flags),
        response_code_details=_text(response.response_code_details),
        bytes_received=_count(request.request_body_bytes),
        bytes_sent=_count(response.response_body_bytes),
        milliseconds=_milliseconds(common.duration),
        access_log_type=AccessLogType.Name(common.access_log_type),
        route=_text(common.route_name),
        upstream_cluster=_text(common.upstream_cluster),
        request_id=_text(request.request_id),
        client_address=_text(common.downstream_remote_address.socket_address.address),
    )
    return Entry(stage=stage, outcome=outcome)


def _decision_id(ours: Struct) -> str | None:
    decision_id = _string(ours, "decision_id")
    return decision_id if _DECISION_ID.fullmatch(decision_id) else None


def _string(ours: Struct, name: str) -> str:
    return ours.fields[name].string_value if name in ours.fields else ""


def _seconds(common: AccessLogCommon) -> float:
    """When the call began; 0 where Envoy does not say it, or nothing that could be a time."""
    seconds = common.start_time.seconds + common.start_time.nanos / 1e9
    return seconds if 0 <= seconds < _MAX_SECONDS else 0


def _method(request: HTTPRequestProperties) -> str | None:
    """None for a method that Envoy has no name for."""
    known = HTTPRequestProperties.Method.values()[1:]
    number = request.request_method
    return HTTPRequestProperties.Method.Name(number) if number in known else None


def _status(response: HTTPResponseProperties) -> int | None:
    """What the client got; None where it was gone before."""
    return response.response_code.value if response.HasField("response_code") else None


def _upstream_status(common: AccessLogCommon, response: HTTPResponseProperties) -> int | None:
    """Envoy passes the server's status on as it is, so it is the client's if the server answered."""
    answered = common.HasField("time_to_first_upstream_rx_byte")
    return _status(response) if answered else None


def _milliseconds(duration: Duration) -> float:
    return max(0, min(duration.seconds, _MAX_SECONDS) * 1000 + duration.nanos / _MILLION)


def _count(number: int) -> int:
    return max(0, min(number, _MAX_COUNT))


def _text(text: str) -> str | None:
    """Cut short, and without tokens; None for no text."""
    return without_tokens(text)[:MAX_TEXT] if text else None
