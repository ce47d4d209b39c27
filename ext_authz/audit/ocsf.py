"""Events as OCSF 1.8.0 has them: what stands where is known here, and docs/audit.md tells it.

Decisions and outcomes are API Activity (class 6003) with the profiles security_control, datetime and
trace; what the log says of itself is a Base Event (class 0). What OCSF has no place for stands under
`unmapped`, none of whose names may sort behind `record_integrity`, which the chain puts last.
"""

import re
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ext_authz.audit.canonical import Event, shown
from ext_authz.audit.envelope import (
    HIGH,
    INFORMATIONAL,
    LOW,
    MEDIUM,
    UNKNOWN,
    Members,
    api_activity,
    base_event,
    endpoint,
    http_request,
    odd_method,
    shown_or_none,
)
from ext_authz.audit.outcome import Outcome
from ext_authz.audit.record import AuditRecord
from ext_authz.leg import Leg

LOG_KINDS: Final = frozenset({"opened", "checkpoint", "torn", "truncated", "lost", "unsynced"})

_GRAVE: Final = LOG_KINDS - {"opened", "checkpoint"}
_LARGEST: Final = 2**53 - 1  # RFC 7493 section 2.2: beyond it readers of JSON disagree
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_TARGET_TYPES: Final = MappingProxyType(
    {
        "tools/call": "tool",
        "prompts/get": "prompt",
        "resources/read": "resource",
        "resources/subscribe": "resource",
        "resources/unsubscribe": "resource",
    }
)
_OBSERVED: Final = MappingProxyType({"action_id": 3, "action": "Observed"})
_DENIED: Final = MappingProxyType(
    {"action_id": 2, "action": "Denied", "status_id": 2, "status": "Failure"}
)
# OCSF has four words for what we have one for: action, disposition, status, severity.
_ALLOWED: Final[Members] = {
    "action_id": 1,
    "action": "Allowed",
    "disposition_id": 1,
    "disposition": "Allowed",
    "status_id": 1,
    "status": "Success",
    "severity_id": INFORMATIONAL,
}
_SIGN_IN: Final[Members] = {
    **_DENIED,
    "disposition_id": 26,
    "disposition": "Unauthorized",
    "severity_id": INFORMATIONAL,
}
_REFUSED: Final[Members] = _SIGN_IN | {"severity_id": LOW}
_ABANDONED: Final[Members] = {
    **_DENIED,
    "disposition_id": 99,
    "disposition": "Abandoned",
    "severity_id": LOW,
}
_FAILED: Final[Members] = {
    **_DENIED,
    "disposition_id": 27,
    "disposition": "Error",
    "severity_id": MEDIUM,
}
_UNAUTHORIZED_STATUS: Final = 401
_BAD_STATUS: Final = 400
_ERROR_STATUS: Final = 500


def decision_event(record: AuditRecord) -> Event:
    """What was decided of a Check."""
    return _decided("decision", record)


def correction_event(record: AuditRecord) -> Event:
    """What the caller was answered instead, after the decision had been written; it supersedes that."""
    return _decided("correction", record)


def outcome_event(outcome: Outcome) -> Event:
    """What became of a call. One that reached a server without an allow of ours is an alert."""
    time = round(outcome.time * 1000)
    response = {"code": outcome.http_status} if outcome.http_status is not None else None
    return {
        **api_activity("outcome", "Outcome", time, outcome.decision_id, secrets.token_hex(16)),
        **_OBSERVED,
        **_status_of_call(outcome.http_status),
        "disposition_id": 17,
        "disposition": "Logged",
        "severity_id": HIGH if outcome.is_bypass else INFORMATIONAL,
        "is_alert": True if outcome.is_bypass else None,
        "duration": None if outcome.milliseconds is None else round(outcome.milliseconds),
        "actor": {"app_name": UNKNOWN},
        "api": {"operation": UNKNOWN},
        "src_endpoint": endpoint(outcome.client_address),
        "http_request": http_request(outcome.http_method, None, outcome.request_id),
        "http_response": response,
        "unmapped": {"event": "outcome", "outcome": _outcome(outcome)},
    }


def outcome_missing_event(decision_id: str, *, seconds: float, time: float) -> Event:
    """Of an allow nobody told within `seconds` what became of it. `time` is in seconds since 1970."""
    kind, milliseconds = "outcome_missing", round(time * 1000)
    return {
        **api_activity(kind, "Outcome", milliseconds, decision_id, f"{decision_id}-{kind}"),
        **_OBSERVED,
        "status_id": 0,
        "status": UNKNOWN,
        "severity_id": MEDIUM,
        "actor": {"app_name": UNKNOWN},
        "api": {"operation": UNKNOWN},
        "src_endpoint": endpoint(None),
        "unmapped": {"event": kind, "outcome_missing": {"after_seconds": seconds}},
    }


def log_event(kind: str, data: Mapping[str, object], *, time: float) -> Event:
    """What the log says of itself: `kind` is one of `LOG_KINDS`. `time` is in seconds since 1970."""
    if kind not in LOG_KINDS:
        raise ValueError("no kind of log event")
    return {
        **base_event(kind, int(time * 1000), secrets.token_hex(16)),
        "severity_id": HIGH if kind in _GRAVE else INFORMATIONAL,
        "unmapped": {"event": kind, "log": {kind: data}},
    }


# ---- decisions


def _decided(kind: str, record: AuditRecord) -> Event:
    uid = f"{record.decision_id}-{kind}"
    return {
        **api_activity(kind, "Authorize", record.time, record.decision_id, uid),
        **_judgement(record),
        "duration": round(record.milliseconds),
        "status_code": record.reason,
        "status_detail": shown_or_none(record.detail),
        "actor": _actor(record),
        "api": _api(record),
        "src_endpoint": endpoint(record.source_address),
        "http_request": http_request(record.http_method, record.path, record.request_id),
        "resources": _resources(record),
        "trace": _trace(record.traceparent),
        "unmapped": _unmapped(kind, record),
    }


def _judgement(record: AuditRecord) -> Members:
    if record.verdict == "abandoned":
        return _ABANDONED
    if record.http_status is None:
        return _ALLOWED
    if record.http_status >= _ERROR_STATUS:
        return _FAILED
    return _SIGN_IN if record.http_status == _UNAUTHORIZED_STATUS else _REFUSED


def _actor(record: AuditRecord) -> Members:
    if record.subject is None:
        return {"app_name": UNKNOWN}
    return {
        "user": {"uid": shown(record.subject), "domain": shown_or_none(record.issuer)},
        "session": {"uid": shown(record.session)} if record.session else None,
        "app_uid": shown_or_none(record.agent),
    }


def _api(record: AuditRecord) -> Members:
    rpc_id = record.rpc_id
    return {
        "operation": shown(record.mcp_method) if record.mcp_method else UNKNOWN,
        "service": _service(record),
        "request": None if rpc_id is None else {"uid": shown(str(rpc_id))},
        "version": shown_or_none(record.mcp_protocol_version),
    }


def _service(record: AuditRecord) -> Members | None:
    if record.server is None:
        return None
    return {"name": shown(record.server), "uid": shown_or_none(record.resource)}


def _resources(record: AuditRecord) -> list[Members] | None:
    """What the message is about; the type is told by the method, as in MCP."""
    if record.mcp_target is None:
        return None
    kind = _TARGET_TYPES.get(record.mcp_method or "", "resource")
    return [{"type": kind, "name": shown(record.mcp_target)}]


def _trace(traceparent: str | None) -> Members | None:
    """W3C Trace Context section 3.2.2: the trace id of a well-formed header."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return {"uid": found[1]} if found else None


def _unmapped(kind: str, record: AuditRecord) -> Members:
    return {
        "event": kind,
        "decision": {"verdict": record.verdict, "traceparent": shown_or_none(record.traceparent)},
        "exchange": _exchange(record),
        "fingerprints": _fingerprints(record),
        "http_method": odd_method(record.http_method),
        "mcp": _mcp(record),
        "milliseconds": record.milliseconds,
        "reason_status": record.http_status,
    }


def _mcp(record: AuditRecord) -> Members | None:
    if record.mcp_kind is None:
        return None
    kind = None
    if record.rpc_id is not None:
        kind = "string" if isinstance(record.rpc_id, str) else "number"
    return {"kind": record.mcp_kind, "source": record.mcp_source, "rpc_id_type": kind}


def _exchange(record: AuditRecord) -> Members | None:
    if record.authorization_server is None:
        return None
    return {
        "authorization_server": shown_or_none(record.authorization_server),
        "source": record.token_source,
        "scope": shown_or_none(record.scope),
        "expires_at": record.token_expires_at,
        "id_jag_jti": shown_or_none(record.id_jag_jti),
        "legs": [_leg(leg) for leg in record.legs] or None,
    }


def _leg(leg: Leg) -> Members:
    return {
        "leg": leg.number,
        "status": leg.status,
        "error": shown_or_none(leg.error),
        "milliseconds": round(leg.milliseconds, 3),
        "scope": shown(" ".join(leg.scope)) if leg.scope else None,
        "jti": shown_or_none(leg.jti),
        "expires_at": None if leg.expires_at is None else min(leg.expires_at, _LARGEST),
    }


def _fingerprints(record: AuditRecord) -> Members | None:
    if record.user_token_fingerprint is None:
        return None
    return {
        "user_token": record.user_token_fingerprint,
        "id_jag": record.id_jag_fingerprint,
        "access_token": record.access_token_fingerprint,
    }


# ---- outcomes


def _outcome(outcome: Outcome) -> Members:
    return {
        "reached_server": outcome.reached_server,
        "response_flags": [shown(flag) for flag in outcome.response_flags],
        "response_code_details": shown_or_none(outcome.response_code_details),
        "upstream_status": outcome.upstream_status,
        "bytes_received": outcome.bytes_received,
        "bytes_sent": outcome.bytes_sent,
        "milliseconds": outcome.milliseconds,
        "access_log_type": shown_or_none(outcome.access_log_type),
        "http_method": odd_method(outcome.http_method),
        "route": shown_or_none(outcome.route),
        "upstream_cluster": shown_or_none(outcome.upstream_cluster),
    }


def _status_of_call(http_status: int | None) -> Members:
    if http_status is None:
        return {"status_id": 0, "status": UNKNOWN}
    if http_status < _BAD_STATUS:
        return {"status_id": 1, "status": "Success"}
    return {"status_id": 2, "status": "Failure"}
