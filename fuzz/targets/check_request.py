"""CheckRequests as bytes, through the story of a Check: what is answered, and what is remembered.

Two parts are made up: every well-formed token is Alice's, and her access token is at hand.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote

import orjson
from google.protobuf.message import DecodeError

from ext_authz._protos.external_auth_pb2 import CheckRequest, CheckResponse
from ext_authz.access_log.outcomes import Outcomes
from ext_authz.audit.canonical import Event, canonical
from ext_authz.audit.decision_log import DecisionLog
from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.audit.log import AuditLog
from ext_authz.audit.record import Recorder
from ext_authz.auditor.decisions import Decision, decision_of
from ext_authz.check import Check
from ext_authz.clock import Clock
from ext_authz.exchange.access_token import AccessToken
from ext_authz.identity.compact_jws import NotCompactJws, take_apart
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import Users, _taken_apart
from ext_authz.request.catalogue import Catalogue
from ext_authz.secret import Secret
from ext_authz.settings.settings import Match, McpServer, SubjectForm
from ext_authz.verdict.resource_metadata import ResourceMetadata
from tests.unit.trails import ACCESS_TOKEN, ALICE, AUTH, CRM, HER_TOKEN, IDP

if TYPE_CHECKING:
    from ext_authz.exchange.access_tokens import AccessTokens

MATCHED: Final = replace(
    CRM, name="wiki", match=Match(host="mcp.corp.example", path_prefix="/wiki")
)
WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
CLOCK: Final = Clock(wall=lambda: 1_795_000_000.0, monotonic=lambda: 0.0)
RECORDER: Final = Recorder(Fingerprints("a-key-of-fingerprints-" * 2), SubjectForm.PLAIN)


class TrustingUsers:
    """Believes every token that has the form of one."""

    async def verify(self, unverified_token: Secret) -> VerifiedUser:
        _taken_apart(unverified_token)
        return replace(ALICE, token=unverified_token)


class ReadyTokens:
    """Has an access token for every server."""

    async def token_for(self, _user: VerifiedUser, server: McpServer) -> AccessToken:
        return replace(HER_TOKEN, resource=server.resource)


class Lines:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def enter(self, event: Event) -> "Lines":
        self.written.append(canonical(event))
        return self

    async def durable(self, *, seconds: float) -> None:
        """So they are at once."""


def one_input(data: bytes) -> None:
    try:
        request = CheckRequest.FromString(data)
    except DecodeError:
        return
    audit = Lines()
    response = asyncio.run(_check(cast("AuditLog", audit))(request))
    [line] = audit.written
    assert line.decode().isprintable()
    _assert_agree(response, decision_of(orjson.loads(line)))
    headers = list(_headers(request))
    for token in _user_tokens(headers):
        _assert_absent(token, response, line)
        _assert_not_forwarded(token, request, response)


def _check(audit: AuditLog) -> Check:
    return Check(
        catalogue=Catalogue({"crm": CRM, "wiki": MATCHED}, {AUTH.issuer: AUTH}),
        users=cast("Users", TrustingUsers()),
        access_tokens=cast("AccessTokens", ReadyTokens()),
        metadata=ResourceMetadata([IDP]),
        decisions=DecisionLog(RECORDER, audit, CLOCK),
        outcomes=Outcomes(audit, CLOCK),
        clock=CLOCK,
        seconds=5,
    )


def _assert_agree(response: CheckResponse, record: Decision) -> None:
    """Response, metadata and record say the same; and it is never that we broke down."""
    metadata = dict(response.dynamic_metadata.items())
    assert metadata["verdict"] == record.verdict
    assert metadata.get("reason") == record.reason != "internal", record.detail
    assert response.HasField("ok_response") is (record.verdict == "allow")
    if response.HasField("ok_response"):
        _assert_allows(response)
    else:
        _assert_ends_here(response, record.verdict)


def _assert_allows(response: CheckResponse) -> None:
    assert response.status.code == 0
    [header] = response.ok_response.headers
    assert (header.header.key, header.header.value) == ("authorization", f"Bearer {ACCESS_TOKEN}")
    assert "authorization" not in map(str.lower, response.ok_response.headers_to_remove)


def _assert_ends_here(response: CheckResponse, verdict: str) -> None:
    assert response.status.code != 0
    status = response.denied_response.status.code
    assert status == 200 if verdict == "document" else status in {401, 403, 502, 503}
    assert json.loads(response.denied_response.body)


def _headers(request: CheckRequest) -> Iterator[tuple[str, str]]:
    http = request.attributes.request.http
    yield from http.headers.items()
    for header in http.header_map.headers:
        yield header.key, header.raw_value.decode(errors="replace") or header.value


def _user_tokens(headers: list[tuple[str, str]]) -> Iterator[str]:
    """Whatever is a JWS in an `Authorization` header, in whichever company it stands there."""
    for name, value in headers:
        if name.lower() == "authorization":
            yield from filter(_is_jws, WORD.findall(value))


def _is_jws(text: str) -> bool:
    try:
        take_apart(Secret(text))
    except NotCompactJws:
        return False
    return True


def _assert_absent(token: str, response: CheckResponse, line: bytes) -> None:
    """Neither in the record nor in the metadata, from which Envoy writes its access log."""
    for text in (line.decode(), str(dict(response.dynamic_metadata.items()))):
        assert token not in text
        assert token not in unquote(text)


def _assert_not_forwarded(token: str, request: CheckRequest, response: CheckResponse) -> None:
    """Nothing that reaches the MCP server holds the token, or could be read as another header."""
    if not response.HasField("ok_response"):
        return
    for text in _forwarded(request, response):
        assert token not in text
        assert token not in unquote(text)
        assert not {"\0", "\r", "\n"} & set(text)


def _forwarded(request: CheckRequest, response: CheckResponse) -> Iterator[str]:
    """The URL, and the headers that are left: the pseudo-headers among them repeat the URL."""
    http = request.attributes.request.http
    yield from (http.host, http.path)
    gone = {"authorization", *response.ok_response.headers_to_remove}
    for name, value in _headers(request):
        if name.lower() not in gone and not name.startswith(":"):
            yield value
