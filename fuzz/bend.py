"""CheckRequests bent a text at a time: bytes bent at random are seldom a protobuf any more."""

from collections.abc import Callable
from random import Random
from typing import Final

from google.protobuf.message import DecodeError

from ext_authz._protos.external_auth_pb2 import CheckRequest

Bend = Callable[[bytes], bytes]
FIELDS: Final = ("method", "path", "host", "body")


def bent(data: bytes, bend: Bend, pick: Random) -> bytes:
    """`data` with one of the request's texts bent by `bend`; all of it where it is no request."""
    try:
        request = CheckRequest.FromString(data)
    except DecodeError:
        return bend(data)
    bend_one = pick.choice([_bend_field, _bend_header, _bend_raw_header, _bend_extension])
    bend_one(request, bend, pick)
    return request.SerializeToString()


def _bend_field(request: CheckRequest, bend: Bend, pick: Random) -> None:
    http, name = request.attributes.request.http, pick.choice(FIELDS)
    setattr(http, name, _bent_text(getattr(http, name), bend))


def _bend_header(request: CheckRequest, bend: Bend, pick: Random) -> None:
    headers = request.attributes.request.http.headers
    name = pick.choice([*sorted(headers), "x-new"])
    headers[name] = _bent_text(headers[name], bend)


def _bend_raw_header(request: CheckRequest, bend: Bend, pick: Random) -> None:
    headers = request.attributes.request.http.header_map.headers
    if headers:
        header = pick.choice(headers)
        header.raw_value = bend(header.raw_value)


def _bend_extension(request: CheckRequest, bend: Bend, pick: Random) -> None:
    extensions = request.attributes.context_extensions
    name = pick.choice([*sorted(extensions), "mcp.scopes"])
    extensions[name] = _bent_text(extensions[name], bend)


def _bent_text(text: str, bend: Bend) -> str:
    return bend(text.encode()).decode(errors="ignore")
