"""Strict JSON: what any parser reads alike is read, all else is refused."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ext_authz.strict_json import (
    MAX_DEPTH,
    MAX_NUMBER_DIGITS,
    MAX_VALUES,
    NotStrictJson,
    parse,
    parse_object,
)

text = st.text(st.characters(codec="utf-8"))
number = st.integers(-(10**39) + 1, 10**39) | st.floats(allow_nan=False, allow_infinity=False)
value = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
# Bytes that look like JSON for a while: pieces of the grammar in any order.
tokens = rb'''{ } [ ] , : " \ 0 - 1 1e9 1E999 .5 true null NaN -Infinity "a" "\u0061" "\ud800"'''
pieces = st.sampled_from([*tokens.split(), b" ", b"\n", b"\0", b"\xff", b"\xef\xbb\xbf", b'"\x01"'])
scraps = st.lists(pieces, max_size=12).map(b"".join)


def outcome(document: bytes) -> Any:
    try:
        return parse(document)
    except NotStrictJson:
        return NotStrictJson


@given(value, st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 2}]))
def test_every_valid_document_is_read_as_the_standard_library_reads_it(
    drawn: object, layout: dict[str, Any]
) -> None:
    document = json.dumps(drawn, **layout).encode()

    assert parse(document) == json.loads(document) == drawn


@given(st.binary() | scraps)
@example(b'{"a":1,"\\u0061":2}')
def test_any_bytes_are_read_as_the_standard_library_reads_them_or_refused(document: bytes) -> None:
    found = outcome(document)

    assert found is NotStrictJson or found == json.loads(document)


REFUSED = [
    (b'{"a":1,"a":2}', "duplicate key"),
    (b'{"a":1,"\\u0061":2}', "duplicate key"),
    (b'[{"b":{"a":1,"a":1}}]', "duplicate key"),
    (b'{"":1,"":2}', "duplicate key"),
    (b"NaN", "NaN or Infinity"),
    (b"[Infinity]", "NaN or Infinity"),
    (b'{"a":-Infinity}', "NaN or Infinity"),
    (b"1e400", "number out of range"),
    (b"-1e400", "number out of range"),
    (b"1" * (MAX_NUMBER_DIGITS + 1), "number out of range"),
    (b"-" + b"1" * MAX_NUMBER_DIGITS, "number out of range"),
    (b'"\\ud800"', "lone surrogate"),
    (b'"\\udc00\\ud800"', "lone surrogate"),
    (b'{"\\udfff":1}', "lone surrogate"),
    (b'[["\\ud83dx"]]', "lone surrogate"),
    (b'{"a":{"b":"\\ud800"}}', "lone surrogate"),
    (b'"\xed\xa0\x80"', "not UTF-8"),
    (b'"\xc0\xaf"', "not UTF-8"),
    (b'"\xff"', "not UTF-8"),
    ('{"a":1}'.encode("utf-16"), "not UTF-8"),
    ('{"a":1}'.encode("utf-32-le"), "not one JSON document"),
    (b"\xef\xbb\xbf{}", "not one JSON document"),
    (b"", "not one JSON document"),
    (b"  ", "not one JSON document"),
    (b"{}{}", "not one JSON document"),
    (b"{} x", "not one JSON document"),
    (b"{}\0", "not one JSON document"),
    (b'{"a":1,}', "not one JSON document"),
    (b"[1,]", "not one JSON document"),
    (b"{'a':1}", "not one JSON document"),
    (b"{a:1}", "not one JSON document"),
    (b"{}//x", "not one JSON document"),
    (b'"a\nb"', "not one JSON document"),
    (b'"\\x41"', "not one JSON document"),
    (b"01", "not one JSON document"),
    (b"+1", "not one JSON document"),
    (b"0x1", "not one JSON document"),
    (b"\xc2\xa0{}", "not one JSON document"),
    (b"\x0c{}", "not one JSON document"),
    (b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH, "nested too deeply"),
    (b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, "nested too deeply"),
]


@pytest.mark.parametrize(("document", "rule"), REFUSED)
def test_what_two_parsers_could_read_differently_is_refused(document: bytes, rule: str) -> None:
    with pytest.raises(NotStrictJson, match=f"^{rule}$"):
        parse(document)


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[" * 1_000 + b"]" * 1_000,
        b"1" * 1_000_000,
        b"1." + b"1" * 1_000_000 + b"e999999999",
        b'"' + b"\\ud800" * 200_000 + b'"',
    ],
    ids=["arrays", "objects", "closed arrays", "digits", "decimals", "surrogates"],
)
@pytest.mark.timeout(2)
def test_a_bomb_is_refused_in_no_time(document: bytes) -> None:
    with pytest.raises(NotStrictJson):
        parse(document)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b" \t\r\n{} \t\r\n", {}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"\U0001f600é"'.encode(), "\U0001f600é"),
        (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
        (b"1" * MAX_NUMBER_DIGITS, int("1" * MAX_NUMBER_DIGITS)),
        (b"-0", 0),
        (b"1e-400", 0.0),
        (b'"\\u0000"', "\0"),
    ],
)
def test_the_odd_but_unambiguous_is_read(document: bytes, expected: object) -> None:
    assert parse(document) == expected


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_up_to_the_limit_is_read(opening: bytes, closing: bytes) -> None:
    assert parse(opening * (MAX_DEPTH - 1) + b"1" + closing * (MAX_DEPTH - 1))


@pytest.mark.parametrize("document", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_where_an_object_is_wanted_only_an_object_will_do(document: bytes) -> None:
    with pytest.raises(NotStrictJson, match=r"^not an object$"):
        parse_object(document)


def test_an_object_is_given_as_a_dict() -> None:
    assert parse_object(b'{"a":[1]}') == {"a": [1]}


@pytest.mark.parametrize("document", [b'{"canary":1,"canary":2}', b'{"canary"', b'"canary\xff"'])
def test_the_refusal_does_not_quote_the_document(document: bytes) -> None:
    with pytest.raises(NotStrictJson) as refusal:
        parse(document)

    assert "canary" not in str(refusal.value)
    assert refusal.value.__suppress_context__


MANY = {
    "numbers": b"1",
    "fractions": b"0.5",
    "texts": b'""',
    "words": b"null",
    "lists": b"[]",
    "objects": b"{}",
}


def listed(one: bytes, number: int) -> bytes:
    return b"[" + b",".join([one] * number) + b"]"


@pytest.mark.parametrize("one", MANY.values(), ids=MANY)
def test_as_many_values_as_can_be_read_without_keeping_others_waiting_are_read(one: bytes) -> None:
    assert parse(listed(one, MAX_VALUES - 1))
    with pytest.raises(NotStrictJson, match=r"^too many values$"):
        parse(listed(one, MAX_VALUES))


def test_members_of_one_object_count_too() -> None:
    document = json.dumps({str(number): 1 for number in range(MAX_VALUES)}).encode()

    with pytest.raises(NotStrictJson, match=r"^too many values$"):
        parse(document)


@pytest.mark.parametrize("text", ["[" * (MAX_VALUES + 1), '\\"[' * (MAX_VALUES + 1)])
def test_brackets_in_a_text_are_no_lists(text: str) -> None:
    assert parse(json.dumps({"a": [text]}).encode()) == {"a": [text]}


@pytest.mark.parametrize(
    "document", [b'"' + b'\\"[' * 300_000, b"[" * 40_000 + b'"' + b"\\" * 900_001]
)
def test_a_text_without_an_end_is_found_out_in_one_pass(document: bytes) -> None:
    with pytest.raises(NotStrictJson):
        parse(document)
