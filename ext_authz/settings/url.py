"""Reads a URL that this service will call: https, or on this machine."""

from ext_authz.outbound import OutboundError, refuse_unguarded
from ext_authz.settings.yaml_cursor import Cursor


def needed_url(item: Cursor, name: str, fix: str) -> str:
    """The URL under `name`; "" with a fault where there is none."""
    member = item.need(name, fix)
    return checked_url(member) if member else ""


def optional_url(item: Cursor, name: str) -> str | None:
    """The URL under `name` where there is one."""
    member = item.get(name)
    return checked_url(member) if member else None


def checked_url(member: Cursor) -> str:
    """The text exactly as it stands: issuers are compared code point by code point (RFC 8414)."""
    text = member.text()
    try:
        refuse_unguarded(text)
    except OutboundError as error:
        member.fault(f"is {error}", "Use an https URL (http is for loopback only).")
    return text
