"""A stored line as an event. Files may hold anything: what is none of ours is None."""

from typing import Any

import orjson


def parsed(line: bytes) -> dict[str, Any] | None:
    """The event, with `unmapped.event` in it."""
    try:
        event = orjson.loads(line)
        kind = event["unmapped"]["event"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return event if isinstance(event, dict) and isinstance(kind, str) else None
