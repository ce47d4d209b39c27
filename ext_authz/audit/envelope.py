"""What every OCSF 1.8.0 event has, whatever it tells: class, moment, metadata, endpoints.

OCSF wants some members although nobody may know them: those are `Unknown`, as its guidelines say.
"""

import ipaddress
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from ext_authz import __version__
from ext_authz.audit.canonical import shown

OCSF_VERSION: Final = "1.8.0"
UNKNOWN: Final = "Unknown"
INFORMATIONAL, LOW, MEDIUM, HIGH = 1, 2, 3, 4  # severity_id
Members = dict[str, object]

_HTTP_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_PRODUCT: Final[Members] = {
    "name": "mcp-ext-authz",
    "vendor_name": "mcp-ext-authz",
    "version": __version__,
}
_API_ACTIVITY: Final = MappingProxyType(
    {"activity_id": 99, "category_uid": 6, "class_uid": 6003, "type_uid": 600399}
)
_BASE_EVENT: Final = MappingProxyType(
    {"activity_id": 99, "category_uid": 0, "class_uid": 0, "type_uid": 99}
)


def api_activity(kind: str, activity: str, time: int, decision_id: str | None, uid: str) -> Members:
    """Class 6003. `time` is in milliseconds since 1970, `uid` the event's own name."""
    profiles = ("datetime", "security_control", "trace")
    return {
        **_API_ACTIVITY,
        "activity_name": activity,
        "time": time,
        "time_dt": _rfc3339(time),
        "metadata": _metadata(kind, decision_id, uid, profiles),
    }


def base_event(kind: str, time: int, uid: str) -> Members:
    """Class 0, for what OCSF has no class for."""
    return {
        **_BASE_EVENT,
        "activity_name": kind,
        "time": time,
        "time_dt": _rfc3339(time),
        "metadata": _metadata(kind, None, uid, ("datetime",)),
    }


def endpoint(address: str | None) -> Members:
    """A peer by its IP address; by name where it has another kind of address, or none is known."""
    if address and _is_ip(address):
        return {"ip": address}
    return {"name": shown(address) if address else UNKNOWN}


def http_request(method: str | None, path: str | None, request_id: str | None) -> Members | None:
    """The HTTP request; a method that OCSF does not know stands elsewhere, see `odd_method`."""
    known = method if method in _HTTP_METHODS else None
    if known is None and path is None and request_id is None:
        return None
    url = {"path": shown(path)} if path is not None else None
    return {"http_method": known, "url": url, "uid": shown_or_none(request_id)}


def odd_method(method: str | None) -> str | None:
    """A method that OCSF does not know: HTTP lets anybody make one up."""
    return None if method is None or method in _HTTP_METHODS else shown(method)


def shown_or_none(text: str | None) -> str | None:
    """`shown`, where there is a text."""
    return None if text is None else shown(text)


def _rfc3339(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")


def _metadata(kind: str, decision_id: str | None, uid: str, profiles: tuple[str, ...]) -> Members:
    return {
        "correlation_uid": shown_or_none(decision_id),
        "log_name": kind,
        "product": _PRODUCT,
        "profiles": profiles,
        "uid": shown(uid),
        "version": OCSF_VERSION,
    }


@lru_cache(maxsize=4096)
def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # an IPv6 zone, which OCSF's type knows in some spellings only
