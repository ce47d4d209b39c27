"""The bytes of an event: canonical JSON (RFC 8785), and printable ASCII throughout.

orjson's sorted bytes are RFC 8785's on the values that we let in: strings of printable ASCII, integers
within 2**53, and floats of three decimals. Text of others is escaped beforehand, so that a name that
looks like another, or steers a terminal, shows as its escapes, here and wherever the event is shown.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import orjson

Event = Mapping[str, object]

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_REMEMBERED: Final = 8192  # the same names come again and again
_AS_THEY_ARE: Final = frozenset({str, int, bool})  # integers beyond 2**53 are orjson's to refuse


class NotCanonical(ValueError):
    """The event holds what has no canonical form here; the message names the kind of value."""


def canonical(event: Event) -> bytes:
    """The event's canonical JSON, without members that are None. Raises `NotCanonical`."""
    try:
        line = orjson.dumps(_object(event), option=_OPTIONS)
    except orjson.JSONEncodeError:
        raise NotCanonical("a value that JSON does not know") from None
    if not line.isascii() or b"\x7f" in line:
        raise NotCanonical("text that is not printable ASCII")
    return line


@lru_cache(maxsize=_REMEMBERED)
def shown(text: str) -> str:
    r"""`text` in printable ASCII, without loss: a text that had to be escaped holds a `\u`, another never."""
    if text.isascii() and text.isprintable() and r"\u" not in text:
        return text
    escaped = json.dumps(text.replace("\\", "\\\\"))[1:-1]
    # JSON's own escapes for the quote and the backslash are undone: they come again when written.
    return _ESCAPE.sub(_unescaped, escaped).replace("\x7f", r"\u007f")


_ESCAPE: Final = re.compile(r"\\(u[0-9a-f]{4}|.)")
_SHORT: Final = {"n": r"\u000a", "r": r"\u000d", "t": r"\u0009", "b": r"\u0008", "f": r"\u000c"}


def _unescaped(found: re.Match[str]) -> str:
    escape = found[1]
    return f"\\{escape}" if len(escape) > 1 else _SHORT.get(escape, escape)


def _object(event: Event) -> dict[str, object]:
    """The members that are there, each in its canonical form."""
    return {
        name: member if type(member) in _AS_THEY_ARE else _value(member)
        for name, member in event.items()
        if member is not None
    }


def _value(value: object) -> object:
    """`value` in its canonical form: whole floats as integers, objects without what is None."""
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, (dict, Mapping)):
        return _object(value)
    if isinstance(value, (list, tuple)):
        return [_value(member) for member in value]
    if isinstance(value, float) and math.isfinite(value):
        rounded = round(value, 3)
        return int(rounded) if rounded.is_integer() else rounded
    raise NotCanonical(f"a {type(value).__name__}")
