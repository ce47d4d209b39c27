"""The one writer of responses. No protobuf enters the answer anywhere else.

To Envoy an empty `CheckResponse` means: allow, and forward the user's own token. So every response
is built here, whole, from a verdict; and each carries the verdict as dynamic metadata too, which the
RBAC filter behind ext_authz in the shipped `envoy.yaml` insists on.
"""

import json
from typing import Final, assert_never

import orjson
from google.protobuf.struct_pb2 import Struct

from ext_authz._protos.base_pb2 import HeaderValue, HeaderValueOption
from ext_authz._protos.external_auth_pb2 import CheckResponse, DeniedHttpResponse, OkHttpResponse
from ext_authz._protos.http_status_pb2 import HttpStatus
from ext_authz._protos.rpc_status_pb2 import Status
from ext_authz.exchange.access_token import AccessToken
from ext_authz.secret import without_tokens
from ext_authz.settings.settings import McpServer
from ext_authz.verdict.answers import ANSWERS, Answer
from ext_authz.verdict.request_headers import OUR_PREFIX, headers_to_remove
from ext_authz.verdict.resource_metadata import metadata_url
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Allow, Deny, Document, Verdict

DECISION_HEADER: Final = OUR_PREFIX + "decision"
REASON_HEADER: Final = OUR_PREFIX + "reason"
_OK: Final = 0
_UNAUTHENTICATED: Final = 16
_PERMISSION_DENIED: Final = 7
_HTTP_OK: Final = 200
_HTTP_UNAUTHORIZED: Final = 401
_JSON_RPC_DENIED: Final = -32001  # of the range that MCP leaves to implementations
_METADATA_LENGTH: Final = 256
_JSON: Final = ("content-type", "application/json")
_NO_STORE: Final = ("cache-control", "no-store")


def check_response(
    trail: Trail, verdict: Verdict, *, milliseconds: float, scopes: tuple[str, ...]
) -> CheckResponse:
    """The response for `verdict`. `scopes` is what a 401 tells the client to ask its sign-in for."""
    match verdict:
        case Allow():
            response = _allow(trail, verdict.token)
        case Deny():
            response = _deny(trail, verdict, scopes)
        case Document():
            response = _document(trail, verdict)
        case _:
            assert_never(verdict)
    response.dynamic_metadata.CopyFrom(_metadata(trail, verdict, milliseconds))
    return response


def verdict_name(verdict: Verdict) -> str:
    """`allow`, `deny` or `document`: in metadata, access log and audit alike."""
    return type(verdict).__name__.lower()


def _allow(trail: Trail, token: AccessToken) -> CheckResponse:
    """Overwrites `Authorization`; raises `ValueError` where what an allow needs is not all there."""
    if not (trail.facts and trail.server and trail.message and trail.user):
        raise ValueError("an allow without facts, server, message or user")
    if (token.issuer, token.subject) != (trail.user.issuer, trail.user.subject):
        raise ValueError("an allow with somebody else's token")
    if token.resource != trail.server.resource:
        raise ValueError("an allow with another server's token")
    return CheckResponse(
        status=Status(code=_OK),
        ok_response=OkHttpResponse(
            headers=[_header("authorization", f"Bearer {token.value.reveal()}")],
            headers_to_remove=headers_to_remove(trail.facts, trail.user.token),
            response_headers_to_add=[_header(DECISION_HEADER, trail.decision_id)],
        ),
    )


def _deny(trail: Trail, verdict: Deny, scopes: tuple[str, ...]) -> CheckResponse:
    answer = ANSWERS[verdict.reason]
    code = _UNAUTHENTICATED if answer.status == _HTTP_UNAUTHORIZED else _PERMISSION_DENIED
    headers = [_JSON, _NO_STORE, (DECISION_HEADER, trail.decision_id)]
    headers.append((REASON_HEADER, verdict.reason.value))
    if answer.challenge is not None:
        headers.append(("www-authenticate", _challenge(answer, trail.server, scopes)))
    retry_after = verdict.retry_after or answer.retry_after
    if retry_after is not None:
        headers.append(("retry-after", str(retry_after)))
    return _denied(code, answer.status, headers, _body(trail, verdict, answer))


def _document(trail: Trail, verdict: Document) -> CheckResponse:
    """Served as a denial with status 200: Envoy sends it, and nothing reaches the MCP server."""
    headers = [_JSON, _NO_STORE, (DECISION_HEADER, trail.decision_id)]
    headers.append(("access-control-allow-origin", "*"))
    return _denied(_PERMISSION_DENIED, _HTTP_OK, headers, verdict.body)


def _denied(code: int, status: int, headers: list[tuple[str, str]], body: bytes) -> CheckResponse:
    return CheckResponse(
        status=Status(code=code),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=status),
            headers=[_header(name, value) for name, value in headers],
            body=body.decode(),
        ),
    )


def _challenge(answer: Answer, server: McpServer | None, scopes: tuple[str, ...]) -> str:
    """RFC 6750 section 3 with `resource_metadata` (RFC 9728 section 5.1); every value is ours."""
    parameters = {"error": answer.challenge or "", "scope": " ".join(scopes)}
    if server is not None:
        parameters["resource_metadata"] = metadata_url(server)
    shown = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)
    return f"Bearer {shown}".strip()


def _body(trail: Trail, verdict: Deny, answer: Answer) -> bytes:
    """A JSON-RPC error, since MCP clients read that; it holds codes of ours and nothing else."""
    rpc_id = trail.message.rpc_id if trail.message else None
    data = {"reason": verdict.reason.value, "decision_id": trail.decision_id}
    error = {"code": _JSON_RPC_DENIED, "message": answer.text, "data": data}
    return orjson.dumps({"jsonrpc": "2.0", "id": rpc_id, "error": error})


def _metadata(trail: Trail, verdict: Verdict, milliseconds: float) -> Struct:
    """For Envoy's access log, and for the interlock."""
    texts = {
        "verdict": verdict_name(verdict),
        "reason": verdict.reason.value if isinstance(verdict, Deny) else None,
        "decision_id": trail.decision_id,
        "server": trail.server.name if trail.server else None,
        "issuer": trail.user.issuer if trail.user else None,
        "subject": trail.user.subject if trail.user else None,
        "mcp_method": trail.message.method if trail.message else None,
        "mcp_target": trail.message.target if trail.message else None,
        "token_source": trail.token.source.value if trail.token else None,
    }
    metadata = Struct()
    fields = metadata.fields
    for name, text in texts.items():
        if text is not None:
            fields[name].string_value = _short(text)
    fields["milliseconds"].number_value = round(milliseconds, 3)
    return metadata


def _short(text: str) -> str:
    """A text cut short; with escapes for what would steer the terminal of who reads the log."""
    shown = text if text.isprintable() else json.dumps(text)[1:-1]
    return without_tokens(shown)[:_METADATA_LENGTH]


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
