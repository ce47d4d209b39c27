"""Whether values are of the types that they are declared with: they come from files that may hold anything."""

from types import NoneType, UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

Read = TypeVar("Read")
_TYPES: Final[dict[type, dict[str, tuple[type, ...]]]] = {}  # by dataclass: asked for once


def checked(read: Read) -> Read:
    """`read`, a dataclass; raises `TypeError` where a field of it is of another type than declared."""
    kind = type(read)
    if kind not in _TYPES:
        _TYPES[kind] = {name: tuple(_types(hint)) for name, hint in get_type_hints(kind).items()}
    for name, types in _TYPES[kind].items():
        if not isinstance(getattr(read, name), types):
            raise TypeError(name)
    return read


def text(value: object) -> str:
    """`value`, which is a text; raises `TypeError`."""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def text_or_none(value: object) -> str | None:
    """As `text`, and None where there is none."""
    return None if value is None else text(value)


def _types(hint: Any) -> list[type]:
    """Those that `hint` allows; a whole number is written without a fraction, whatever it counts."""
    hints = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    types = [NoneType if each is None else get_origin(each) or each for each in hints]
    return [*types, int] if float in types else types
