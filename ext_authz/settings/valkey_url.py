"""Where a Valkey or Redis server is: over TLS, or on this machine."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from ext_authz.outbound import OutboundError, refuse_unguarded

DEFAULT_PORT: Final = 6379
_UNIX: Final = "unix://"
_HTTP: Final = {"rediss": "https", "redis": "http"}  # what is guarded in the same way
_DATABASE: Final = re.compile(r"/?|/([0-9]{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyAddress:
    """A host and port, or where `path` is there a Unix socket."""

    host: str = ""
    port: int = DEFAULT_PORT
    database: int = 0
    tls: bool = False
    path: str | None = None


def valkey_address(url: str) -> ValkeyAddress:
    """What `rediss://HOST:PORT/DB`, `redis://LOOPBACK:PORT/DB` or `unix:///PATH` says.

    Raises `ValueError`, whose message says what the text is or is not.
    """
    if url.startswith(_UNIX):
        return _socket(url.removeprefix(_UNIX))
    scheme, colon, rest = url.partition(":")
    if scheme not in _HTTP:
        raise ValueError("is neither rediss, redis nor unix")
    try:
        refuse_unguarded(f"{_HTTP[scheme]}{colon}{rest}")
    except OutboundError as error:
        raise ValueError(f"is {str(error).replace('https', 'TLS')}") from None
    return _server(url)


def _socket(path: str) -> ValkeyAddress:
    if not PurePosixPath(path).is_absolute():
        raise ValueError("is not an absolute path")
    return ValkeyAddress(path=path)


def _server(url: str) -> ValkeyAddress:
    parts = urlsplit(url)
    database = _DATABASE.fullmatch(parts.path)
    if database is None or parts.query:
        raise ValueError("names no database by its number")
    return ValkeyAddress(
        host=parts.hostname or "",
        port=parts.port or DEFAULT_PORT,
        database=int(database[1] or 0),
        tls=parts.scheme == "rediss",
    )
