"""JSON as RFC 8259 and RFC 7493 (I-JSON) mean it, and nothing looser.

Two parsers that read one document differently are how a gateway and the server behind it come to
disagree about which tool was called. What is ambiguous is refused: duplicate keys, NaN, numbers out
of range, lone surrogates, a byte order mark, bytes after the document, nesting without end.
"""

import json
import math
import re
from typing import Final, NoReturn

MAX_DEPTH: Final = 64
MAX_NUMBER_DIGITS: Final = 40
MAX_VALUES: Final = 2**15  # nobody else is served while a document is read
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class NotStrictJson(ValueError):
    """The document is not strict JSON; the message names the rule and never quotes the document."""


def parse(document: bytes) -> object:
    """The value that `document` (UTF-8) spells; raises `NotStrictJson` for anything ambiguous."""
    if document.count(b"[") > MAX_VALUES:
        _refuse_many_lists(document)
    reading = _Reading()
    try:
        value = reading.decoded(document.decode("utf-8", errors="strict"))
    except UnicodeDecodeError:
        _refuse("not UTF-8")
    except RecursionError:
        _refuse("nested too deeply")
    except json.JSONDecodeError:
        _refuse("not one JSON document")
    if not _is_plainly_harmless(document):
        reading.check_strings_and_depth(value, MAX_DEPTH)
    return value


def parse_object(document: bytes) -> dict[str, object]:
    """As `parse`, where only an object will do."""
    value = parse(document)
    if not isinstance(value, dict):
        _refuse("not an object")
    return value


def _refuse(rule: str) -> NoReturn:
    raise NotStrictJson(rule) from None


def _is_plainly_harmless(document: bytes) -> bool:
    """Whether it has no escape that could be a surrogate, and too few bytes for depth or many values."""
    opening = document.count(b"{") + document.count(b"[")
    return opening < MAX_DEPTH and len(document) < MAX_VALUES and b"\\u" not in document


class _Reading:
    """One document being read: counts what is in it twice, as it is decoded and as it is checked."""

    def __init__(self) -> None:
        self._decoded = self._checked = 0

    def decoded(self, text: str) -> object:
        decoder = json.JSONDecoder(
            object_pairs_hook=self._object_without_duplicates,
            parse_int=self._whole_number,
            parse_float=self._finite_number,
            parse_constant=_no_constant,
        )
        return decoder.decode(text)

    def check_strings_and_depth(self, value: object, depth: int) -> None:
        """Lone surrogates cannot be encoded again: the audit record would fail, not the request."""
        self._checked = _one_more(self._checked)
        if depth == 0:
            _refuse("nested too deeply")
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, list):
            for item in value:
                self.check_strings_and_depth(item, depth - 1)
        elif isinstance(value, dict):
            for key, item in value.items():
                _check_text(key)
                self.check_strings_and_depth(item, depth - 1)

    def _object_without_duplicates(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        self._decoded = _one_more(self._decoded)
        members = dict(pairs)
        if len(members) != len(pairs):
            _refuse("duplicate key")
        return members

    def _whole_number(self, digits: str) -> int:
        self._decoded = _one_more(self._decoded)
        if len(digits) > MAX_NUMBER_DIGITS:
            _refuse("number out of range")
        return int(digits)

    def _finite_number(self, digits: str) -> float:
        self._decoded = _one_more(self._decoded)
        number = float(digits)
        if not math.isfinite(number):
            _refuse("number out of range")
        return number


def _refuse_many_lists(document: bytes) -> None:
    """The decoder tells of numbers and objects as it goes, and of lists only once it is done."""
    if _TEXT.sub(b"", document, count=MAX_VALUES).count(b"[") > MAX_VALUES:
        _refuse("too many values")


def _one_more(values: int) -> int:
    if values == MAX_VALUES:
        _refuse("too many values")
    return values + 1


def _no_constant(_name: str) -> NoReturn:
    _refuse("NaN or Infinity")


def _check_text(text: str) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        _refuse("lone surrogate")
