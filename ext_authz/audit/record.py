"""What the audit keeps of one Check: these fields, and nothing else ever.

An allow-list by construction: a record is built field by field from the trail, and no field can hold
a token, a header's value, a tool's arguments or a provider's words.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ext_authz import __version__
from ext_authz.reasons import Reason
from ext_authz.request.facts import RequestFacts
from ext_authz.request.mcp_message import McpMessage
from ext_authz.secret import without_tokens
from ext_authz.verdict.answers import ANSWERS
from ext_authz.verdict.check_response import verdict_name
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Deny, Verdict

MAX_TEXT: Final = 512
MAX_IDENTIFIER: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One line of the audit log. Times are RFC 3339 in UTC, durations in milliseconds."""

    time: str
    decision_id: str
    verdict: str
    reason: str | None
    detail: str | None
    http_status: int | None
    milliseconds: float
    issuer: str | None
    subject: str | None
    session: str | None
    agent: str | None
    server: str | None
    resource: str | None
    authorization_server: str | None
    mcp_kind: str | None
    mcp_method: str | None
    mcp_target: str | None
    mcp_source: str | None
    mcp_protocol_version: str | None
    rpc_id: str | int | None
    token_source: str | None
    scope: str | None
    id_jag_jti: str | None
    token_expires_at: int | None
    http_method: str | None
    path: str | None
    source_address: str | None
    request_id: str | None
    traceparent: str | None
    version: str


def audit_record(trail: Trail, verdict: Verdict, *, milliseconds: float) -> AuditRecord:
    """The record of a Check that came to `verdict` after so many milliseconds."""
    deny = verdict if isinstance(verdict, Deny) else None
    user, server, message, token = trail.user, trail.server, trail.message, trail.token
    return AuditRecord(
        time=_rfc3339(trail.started_wall),
        decision_id=trail.decision_id,
        verdict="abandoned" if _is_abandoned(deny) else verdict_name(verdict),
        reason=deny.reason.value if deny else None,
        detail=_text(deny.detail) if deny else None,
        http_status=ANSWERS[deny.reason].status if deny else None,
        milliseconds=round(milliseconds, 3),
        issuer=user.issuer if user else None,
        subject=user.subject if user else None,
        session=user.session if user else None,
        agent=user.agent if user else None,
        server=server.name if server else None,
        resource=server.resource if server else None,
        authorization_server=server.authorization_server.issuer if server else None,
        mcp_kind=message.kind.value if message else None,
        mcp_method=_text(message.method) if message else None,
        mcp_target=_text(message.target) if message else None,
        mcp_source=message.source.value if message else None,
        mcp_protocol_version=message.protocol_version if message else None,
        rpc_id=_rpc_id(message) if message else None,
        token_source=token.source.value if token else None,
        scope=" ".join(token.scope) if token else None,
        id_jag_jti=token.id_jag_jti if token else None,
        token_expires_at=token.expires_at if token else None,
        http_method=_text(trail.facts.http_method) if trail.facts else None,
        path=_text(trail.facts.path) if trail.facts else None,
        source_address=trail.facts.source_address if trail.facts else None,
        request_id=_header(trail.facts, "x-request-id"),
        traceparent=_header(trail.facts, "traceparent"),
        version=__version__,
    )


def _is_abandoned(deny: Deny | None) -> bool:
    return deny is not None and deny.reason is Reason.ABANDONED


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


def _text(value: str | None, most: int = MAX_TEXT) -> str | None:
    """The client's word: cut short, and never a token."""
    return without_tokens(value)[:most] if value else None


def _rpc_id(message: McpMessage) -> str | int | None:
    return _text(message.rpc_id) if isinstance(message.rpc_id, str) else message.rpc_id


def _header(facts: RequestFacts | None, name: str) -> str | None:
    return _text(facts.headers.get(name), MAX_IDENTIFIER) if facts else None
