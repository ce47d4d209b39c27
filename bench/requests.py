"""The request that is measured: one tool call, as a client sends it and as Envoy sends it on."""

from collections.abc import Mapping
from typing import Final

import orjson

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.external_auth_pb2 import CheckRequest

HOST: Final = "mcp.corp.example"
BODY: Final = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "create_ticket", "arguments": {"title": "Printer on fire"}},
    }
)


def client_headers(user_token: str) -> Mapping[str, str]:
    """What a client sends beside the body's length."""
    return {
        "host": HOST,
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {user_token}",
        "content-type": "application/json",
        "mcp-protocol-version": "2025-11-25",
        "user-agent": "bench",
    }


def tool_call(server: str, user_token: str) -> CheckRequest:
    """A `tools/call` of the MCP server named `server`."""
    headers = {
        **client_headers(user_token),
        ":authority": HOST,
        ":method": "POST",
        ":path": f"/{server}/mcp",
        ":scheme": "https",
        "content-length": str(len(BODY)),
        "x-envoy-auth-partial-body": "false",
        "x-forwarded-for": "192.0.2.2",
        "x-forwarded-proto": "https",
        "x-request-id": "034319d7-1366-494d-b00e-21f5a4720483",
    }
    del headers["host"]
    http = AttributeContext.HttpRequest(
        method="POST",
        path=f"/{server}/mcp",
        host=HOST,
        headers=headers,
        raw_body=BODY,
    )
    return CheckRequest(
        attributes=AttributeContext(
            request=AttributeContext.Request(http=http),
            context_extensions={"mcp.server": server},
        )
    )
