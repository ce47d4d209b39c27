"""Reads `quota:`, what an identity provider grants each user of an authorization server."""

from typing import Final

from ext_authz.settings.settings import Quota
from ext_authz.settings.yaml_cursor import Cursor

_MOST_EXCHANGES: Final = 1_000_000
_MOST_DAYS: Final = 366


def read_quota(item: Cursor) -> Quota | None:
    """The quota of the identity provider `item`; faults are noted at their keys."""
    member = item.get("quota")
    if member is None or not member.is_mapping():
        return None
    exchanges = member.need("exchanges", "Give the ID-JAGs that a user is granted: 250.")
    days = member.need("days", "Give the days for which they are granted: 30.")
    member.refuse_unknown()
    if exchanges is None or days is None:
        return None
    return Quota(exchanges=_whole(exchanges), days=days.number("days", most=_MOST_DAYS))


def _whole(exchanges: Cursor) -> int:
    number = exchanges.number("exchanges", most=_MOST_EXCHANGES)
    if number % 1:
        exchanges.fault("is not a whole number", "Write it without a fraction.")
    return max(1, int(number))
