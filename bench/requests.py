"""The request that is measured: one tool call, as Envoy sends it to the service."""

import orjson

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.external_auth_pb2 import CheckRequest


def tool_call(server: str, user_token: str) -> CheckRequest:
    """A `tools/call` of the MCP server named `server`."""
    body = orjson.dumps(
        {
            "jsonrpc": "2.0",
            "id": 7,
            "method": "tools/call",
            "params": {"name": "create_ticket", "arguments": {"title": "Printer on fire"}},
        }
    )
    headers = {
        ":authority": "mcp.corp.example",
        ":method": "POST",
        ":path": f"/{server}/mcp",
        ":scheme": "https",
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {user_token}",
        "content-length": str(len(body)),
        "content-type": "application/json",
        "mcp-protocol-version": "2025-11-25",
        "user-agent": "bench",
        "x-envoy-auth-partial-body": "false",
        "x-forwarded-for": "192.0.2.2",
        "x-forwarded-proto": "https",
        "x-request-id": "034319d7-1366-494d-b00e-21f5a4720483",
    }
    http = AttributeContext.HttpRequest(
        method="POST",
        path=f"/{server}/mcp",
        host="mcp.corp.example",
        headers=headers,
        raw_body=body,
    )
    return CheckRequest(
        attributes=AttributeContext(
            request=AttributeContext.Request(http=http),
            context_extensions={"mcp.server": server},
        )
    )
