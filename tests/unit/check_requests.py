"""CheckRequests as Envoy makes them, in each of the ways in which it can be told to write headers."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.base_pb2 import Address, HeaderMap, HeaderValue, SocketAddress
from ext_authz._protos.external_auth_pb2 import CheckRequest

CLIENT: Final = "192.0.2.7"


class Encoding(Enum):
    """How Envoy writes headers and body."""

    MAP = "its default"
    TEXT = "header_map, as text"
    RAW = "encode_raw_headers and pack_as_bytes"


def check_request(
    *,
    method: str = "POST",
    path: str = "/crm/mcp",
    host: str = "mcp.corp.example",
    headers: Mapping[str, str] | None = None,
    body: str = "",
    extensions: Mapping[str, str] | None = None,
    encoding: Encoding = Encoding.MAP,
) -> CheckRequest:
    """What Envoy asks about one request."""
    http = AttributeContext.HttpRequest(method=method, path=path, host=host)
    _write_headers(http, headers or {}, encoding)
    if encoding is Encoding.RAW:
        http.raw_body = body.encode()
    else:
        http.body = body
    address = Address(socket_address=SocketAddress(address=CLIENT, port_value=40000))
    return CheckRequest(
        attributes=AttributeContext(
            source=AttributeContext.Peer(address=address),
            request=AttributeContext.Request(http=http),
            context_extensions=dict(extensions or {}),
        )
    )


def header_map(*pairs: tuple[str, bytes]) -> HeaderMap:
    """The headers as they came, one by one."""
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value) for name, value in pairs])


def _write_headers(
    http: AttributeContext.HttpRequest, headers: Mapping[str, str], encoding: Encoding
) -> None:
    match encoding:
        case Encoding.MAP:
            http.headers.update(headers)
        case Encoding.TEXT:
            http.header_map.headers.extend(
                HeaderValue(key=name, value=value) for name, value in headers.items()
            )
        case Encoding.RAW:
            http.header_map.CopyFrom(
                header_map(*((name, value.encode()) for name, value in headers.items()))
            )
