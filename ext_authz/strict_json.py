"""JSON as RFC 8259 and RFC 7493 (I-JSON) mean it, and nothing looser.

Two parsers that read one document differently are how a gateway and the server behind it come to
disagree about which tool was called. What is ambiguous is refused: duplicate keys, NaN, numbers out
of range, lone surrogates, a byte order mark, bytes after the document, nesting without end.
"""

import json
import math
from typing import Final, NoReturn

MAX_DEPTH: Final = 64
MAX_NUMBER_DIGITS: Final = 40


class NotStrictJson(ValueError):
    """The document is not strict JSON; the message names the rule and never quotes the document."""


def parse(document: bytes) -> object:
    """The value that `document` (UTF-8) spells; raises `NotStrictJson` for anything ambiguous."""
    try:
        text = document.decode("utf-8", errors="strict")
        value: object = _DECODER.decode(text)
    except UnicodeDecodeError:
        _refuse("not UTF-8")
    except RecursionError:
        _refuse("nested too deeply")
    except json.JSONDecodeError:
        _refuse("not one JSON document")
    _check_strings_and_depth(value, MAX_DEPTH)
    return value


def parse_object(document: bytes) -> dict[str, object]:
    """As `parse`, where only an object will do."""
    value = parse(document)
    if not isinstance(value, dict):
        _refuse("not an object")
    return value


def _refuse(rule: str) -> NoReturn:
    raise NotStrictJson(rule) from None


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("duplicate key")
    return members


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_NUMBER_DIGITS:
        _refuse("number out of range")
    return int(digits)


def _finite_number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        _refuse("number out of range")
    return number


def _no_constant(_name: str) -> NoReturn:
    _refuse("NaN or Infinity")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_int=_whole_number,
    parse_float=_finite_number,
    parse_constant=_no_constant,
)


def _check_strings_and_depth(value: object, depth: int) -> None:
    """Lone surrogates cannot be encoded again: the audit record would fail, not the request."""
    if depth == 0:
        _refuse("nested too deeply")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check_strings_and_depth(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_strings_and_depth(item, depth - 1)


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        _refuse("lone surrogate")
