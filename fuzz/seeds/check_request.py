"""CheckRequests to begin with."""

from typing import Final

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.external_auth_pb2 import CheckRequest
from tests.unit.check_requests import Encoding, check_request, header_map
from tests.unit.trails import USER_TOKEN

BEARER: Final = f"Bearer {USER_TOKEN}"
PERCENT: Final = USER_TOKEN.replace("e", "%65")
CALL: Final = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"create_ticket"}}'
JSON: Final = {"content-type": "application/json", "x-envoy-auth-partial-body": "false"}
CRM: Final = {"mcp.server": "crm"}
SPELLED_OUT: Final = {
    "mcp.url": "https://mcp.corp.example/new/mcp",
    "mcp.resource": "https://new.corp.example/mcp",
    "mcp.authorization_server": "https://auth.crm.corp.example",
}


def seed(
    *,
    path: str = "/crm/mcp",
    body: str = CALL,
    extensions: dict[str, str] = CRM,
    encoding: Encoding = Encoding.MAP,
    method: str = "POST",
    **headers: str,
) -> CheckRequest:
    """A request that would be allowed, but for what is changed; `x_id` stands for `x-id`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return check_request(
        method=method,
        path=path,
        headers={"authorization": BEARER, **JSON, **given},
        body=body,
        extensions=extensions,
        encoding=encoding,
    )


def raw_headers(*pairs: tuple[str, bytes]) -> CheckRequest:
    """The request with these headers too, byte for byte."""
    request = seed(encoding=Encoding.RAW)
    request.attributes.request.http.header_map.MergeFrom(header_map(*pairs))
    return request


def headers_in_both_encodings() -> CheckRequest:
    request = raw_headers()
    request.attributes.request.http.headers["authorization"] = BEARER
    return request


SEEDS: Final = {
    "allowed": seed(),
    "allowed_headers_as_text": seed(encoding=Encoding.TEXT),
    "allowed_headers_raw": seed(encoding=Encoding.RAW),
    "allowed_without_body": seed(body="", x_envoy_auth_partial_body="true"),
    "server_by_match": seed(path="/wiki/mcp", extensions={}),
    "server_by_match_with_dots": seed(path="/wiki/../crm/mcp", extensions={}),
    "server_spelled_out": seed(extensions=SPELLED_OUT),
    "server_spelled_out_in_part": seed(extensions={"mcp.url": "https://x.example"}),
    "server_unknown": seed(extensions={"mcp.server": "other"}),
    "metadata": seed(method="GET", path="/.well-known/oauth-protected-resource/crm/mcp"),
    "token_missing": seed(authorization=""),
    "token_twice": raw_headers(("Authorization", BEARER.encode())),
    "token_in_path": seed(path=f"/crm/{USER_TOKEN}"),
    "token_in_path_percent_encoded": seed(path=f"/crm/{PERCENT}"),
    "token_in_query": seed(path=f"/crm/mcp?access_token={USER_TOKEN}"),
    "token_in_other_header": seed(x_id=USER_TOKEN),
    "token_in_other_header_percent_encoded": seed(x_id=PERCENT),
    "token_in_request_id": seed(x_request_id=USER_TOKEN, traceparent=PERCENT),
    "token_as_tool_name": seed(body=CALL.replace("create_ticket", USER_TOKEN)),
    "token_as_message_id": seed(body=CALL.replace("7", f'"{USER_TOKEN}"')),
    "token_as_rpc_method": seed(body=CALL.replace("tools/call", USER_TOKEN)),
    "token_as_http_method": seed(method=USER_TOKEN),
    "header_folded_into_authorization": raw_headers(
        ("Authorization_", b"x"), ("x.user.id", b"root")
    ),
    "header_not_utf_8": raw_headers(("x-id", b"\xff")),
    "header_with_line_break": raw_headers(("x-id", b"a\r\nb: c")),
    "headers_in_both_encodings": headers_in_both_encodings(),
    "path_with_line_break": seed(path="/crm/mcp\nx: y"),
    "path_without_slash": seed(path="mcp"),
    "no_request": CheckRequest(),
    "no_headers": CheckRequest(
        attributes=AttributeContext(
            request=AttributeContext.Request(
                http=AttributeContext.HttpRequest(method="POST", path="/")
            )
        )
    ),
}
