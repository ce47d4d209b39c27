"""What the audit keeps of one Check: these fields, and nothing else ever.

An allow-list by construction: a record is built field by field from the trail, and no field can hold
a token, a header's value, a tool's arguments or a provider's words.
"""

from dataclasses import dataclass
from typing import Final

from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.exchange.access_token import AccessToken
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.leg import Leg
from ext_authz.reasons import Reason
from ext_authz.request.facts import RequestFacts
from ext_authz.request.mcp_message import McpMessage
from ext_authz.secret import without_tokens
from ext_authz.settings.settings import AuditSettings, SubjectForm
from ext_authz.verdict.answers import ANSWERS
from ext_authz.verdict.check_response import verdict_name
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Allow, Deny, Verdict

MAX_TEXT: Final = 512
MAX_IDENTIFIER: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """What one Check came to. None: not known, or not applicable.

    `time` is in milliseconds since 1970, `milliseconds` the Check's duration; what expires does so in
    seconds since 1970. Fingerprints are those of `Fingerprints`.
    """

    time: int
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
    legs: tuple[Leg, ...]
    user_token_fingerprint: str | None
    id_jag_fingerprint: str | None
    access_token_fingerprint: str | None
    http_method: str | None
    path: str | None
    source_address: str | None
    request_id: str | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes records, with fingerprints of tokens where there is a key for them.

    Raises `ValueError` where subjects are to be hashed, and there is none.
    """

    fingerprints: Fingerprints | None = None
    subject: SubjectForm = SubjectForm.PLAIN

    def __post_init__(self) -> None:
        if self.subject is SubjectForm.HMAC and self.fingerprints is None:
            raise ValueError("subjects are to be hashed, and there is no fingerprint key")

    def record(self, trail: Trail, verdict: Verdict, *, milliseconds: float) -> AuditRecord:
        """The record of a Check that came to `verdict` after so many milliseconds."""
        deny = verdict if isinstance(verdict, Deny) else None
        facts, user, server, message = trail.facts, trail.user, trail.server, trail.message
        token, legs = trail.token, _legs(trail, verdict)
        return AuditRecord(
            time=int(trail.started_wall * 1000),
            decision_id=trail.decision_id,
            verdict="abandoned" if _is_abandoned(deny) else verdict_name(verdict),
            reason=deny.reason.value if deny else None,
            detail=_text(deny.detail) if deny else None,
            http_status=ANSWERS[deny.reason].status if deny else None,
            milliseconds=round(milliseconds, 3),
            issuer=user.issuer if user else None,
            subject=self._subject(user) if user else None,
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
            id_jag_jti=_text(token.id_jag_jti) if token else None,
            token_expires_at=token.expires_at if token else None,
            legs=legs,
            user_token_fingerprint=self._fingerprint(user.token.digest() if user else None),
            id_jag_fingerprint=self._fingerprint(_id_jag_digest(token, legs)),
            access_token_fingerprint=self._fingerprint(token.value.digest() if token else None),
            http_method=_text(facts.http_method) if facts else None,
            path=_text(facts.path) if facts else None,
            source_address=_text(facts.source_address, MAX_IDENTIFIER) if facts else None,
            request_id=_header(facts, "x-request-id"),
            traceparent=_header(facts, "traceparent"),
        )

    def _subject(self, user: VerifiedUser) -> str:
        if self.subject is SubjectForm.PLAIN or self.fingerprints is None:
            return user.subject
        return self.fingerprints.of_subject(user.issuer, user.subject)

    def _fingerprint(self, digest: bytes | None) -> str | None:
        return self.fingerprints.of(digest) if self.fingerprints and digest else None


def recorder(settings: AuditSettings) -> Recorder:
    """The recorder that the settings ask for; raises `SecretUnreadable`, `KeyTooShort`."""
    return Recorder(fingerprints_of(settings), settings.subject)


def fingerprints_of(settings: AuditSettings) -> Fingerprints | None:
    """Where the settings have a key for them; raises as `recorder`."""
    key = settings.fingerprint_key
    return Fingerprints(key.read().reveal()) if key is not None else None


def _legs(trail: Trail, verdict: Verdict) -> tuple[Leg, ...]:
    """The legs that were made for this Check: with its token, or on the way to its denial."""
    if isinstance(verdict, Allow):
        return verdict.token.legs
    if trail.token is not None:
        return trail.token.legs
    return verdict.legs if isinstance(verdict, Deny) else ()


def _id_jag_digest(token: AccessToken | None, legs: tuple[Leg, ...]) -> bytes | None:
    """That of the token's ID-JAG; without a token, that of the last one that was obtained in vain."""
    if token is not None:
        return token.id_jag_digest
    return next((leg.id_jag_digest for leg in reversed(legs) if leg.id_jag_digest), None)


def _is_abandoned(deny: Deny | None) -> bool:
    return deny is not None and deny.reason is Reason.ABANDONED


def _text(value: str | None, most: int = MAX_TEXT) -> str | None:
    """The client's word: cut short, and never a token."""
    return without_tokens(value)[:most] if value else None


def _rpc_id(message: McpMessage) -> str | int | None:
    return _text(message.rpc_id) if isinstance(message.rpc_id, str) else message.rpc_id


def _header(facts: RequestFacts | None, name: str) -> str | None:
    return _text(facts.headers.get(name), MAX_IDENTIFIER) if facts else None
