"""The facts of one request, as Envoy's CheckRequest states them. No protobuf leaves this module."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.external_auth_pb2 import CheckRequest
from ext_authz.reasons import Denied, Reason

METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
_LINE_BREAKERS: Final = re.compile(r"[\0\r\n]")
_PARTIAL_BODY: Final = "x-envoy-auth-partial-body"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What Envoy says of the request. Header names are in lower case; `path` is without the query.

    `body` is None where Envoy did not hand it over, or handed over only its beginning. `repr` shows
    nothing that can hold a token or a tool's arguments.
    """

    http_method: str
    path: str = field(repr=False)
    query: str = field(repr=False)
    host: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    extensions: Mapping[str, str]
    source_address: str

    @property
    def asks_for_resource_metadata(self) -> bool:
        """Whether this is a request for protected resource metadata (RFC 9728 section 3.1)."""
        inside = self.path == METADATA_PATH or self.path.startswith(METADATA_PATH + "/")
        return inside and self.http_method in {"GET", "HEAD", "OPTIONS"}


def read_facts(request: CheckRequest) -> RequestFacts:
    """The facts of `request`, the same from either header encoding.

    Raises `Denied(REQUEST_MALFORMED)` where it holds no readable HTTP request.
    """
    attributes = request.attributes
    http = attributes.request.http
    if not http.method or not http.path.startswith("/"):
        raise Denied(Reason.REQUEST_MALFORMED, "no method, or no absolute path")
    if _LINE_BREAKERS.search(http.method + http.path + http.host):
        raise Denied(Reason.REQUEST_MALFORMED, "a control character in method, path or host")
    headers = _headers(http)
    path, _, query = http.path.partition("?")
    return RequestFacts(
        http_method=http.method,
        path=path,
        query=query,
        host=http.host.lower(),
        headers=headers,
        body=_body(http, headers),
        extensions=dict(attributes.context_extensions),
        source_address=attributes.source.address.socket_address.address,
    )


def _headers(http: AttributeContext.HttpRequest) -> dict[str, str]:
    if http.headers and http.header_map.headers:
        raise Denied(Reason.REQUEST_MALFORMED, "headers in both encodings")
    if http.headers:
        return _joined(http.headers.items())
    return _joined(
        (header.key, _text(header.raw_value) if header.raw_value else header.value)
        for header in http.header_map.headers
    )


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value a name; repeated ones are joined by a comma, as Envoy's map has them."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        lower = name.lower()
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    if _LINE_BREAKERS.search(" ".join(headers.values())):
        raise Denied(Reason.REQUEST_MALFORMED, "a control character in a header")
    return headers


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        raise Denied(Reason.REQUEST_MALFORMED, "a header is not UTF-8") from None


def _body(http: AttributeContext.HttpRequest, headers: Mapping[str, str]) -> bytes | None:
    """The body where all of it is here. Envoy sets the header only when it hands bodies over."""
    if headers.get(_PARTIAL_BODY) != "false":
        return None
    return http.raw_body or http.body.encode()
