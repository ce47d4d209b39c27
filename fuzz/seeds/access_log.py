"""Messages of Envoy's access log to begin with."""

from typing import Any, Final

from ext_authz._protos.access_log_pb2 import StreamAccessLogsMessage
from tests.unit.access_log.entries import DECISION, FILTER, Plain, entry, refused
from tests.unit.access_log.entries import message as in_any_order
from tests.unit.trails import USER_TOKEN


def message(*entries: Plain) -> bytes:
    """One message of a stream, its maps in order."""
    read = StreamAccessLogsMessage.FromString(in_any_order(*entries))
    return read.SerializeToString(deterministic=True)


def ours(**members: Any) -> Plain:
    """The dynamic metadata of the ext_authz filter."""
    return {"metadata": {"filter_metadata": {FILTER: members}}}


def answered(**response: Any) -> Plain:
    """A call that was allowed, its answer changed."""
    plain = entry()
    plain["response"] |= response
    return plain


def asked(**request: Any) -> Plain:
    """A call that was allowed, its request changed."""
    plain = entry()
    plain["request"] |= request
    return plain


SEEDS: Final = {
    "allowed": message(entry()),
    "allowed_and_refused": message(entry(), refused()),
    "bypass": message(entry(None)),
    "bypass_with_a_decision_of_nobody": message(entry("not-an-id")),
    "bypass_although_denied": message(entry(verdict="deny")),
    "client_gone": message(answered(response_code=None, response_code_details="downstream_reset")),
    "decision_id_as_number": message(entry(**ours(verdict="allow", decision_id=7))),
    "decision_id_as_list": message(entry(**ours(verdict="allow", decision_id=[DECISION]))),
    "duration_negative": message(entry(duration="-0.5s")),
    "duration_of_ages": message(entry(duration="315576000000s")),
    "flags": message(
        entry(
            response_flags={"downstream_connection_termination": True, "no_route_found": True},
        )
    ),
    "method_unknown": message(asked(request_method="METHOD_UNSPECIFIED")),
    "no_entries": message(),
    "nothing": b"",
    "running": message(entry(access_log_type="DownstreamPeriodic")),
    "running_of_old": message(entry(access_log_type="NotSet", intermediate_log_entry=True)),
    "start_before_1970": message(entry(start_time="1969-12-31T23:59:59Z")),
    "start_at_the_end_of_time": message(entry(start_time="9999-12-31T23:59:59.999999999Z")),
    "tcp": bytes.fromhex("1a020a00"),
    "text_that_is_long": message(answered(response_code_details="\U0001f600" * 300)),
    "text_that_steers_a_terminal": message(entry(route_name="\x1b[2J", upstream_cluster="a\nb")),
    "token_as_request_id": message(asked(request_id=USER_TOKEN)),
    "token_as_route": message(entry(route_name=f"/{USER_TOKEN.replace('e', '%65')}")),
    "upstream_try": message(entry(access_log_type="UpstreamEnd")),
}
