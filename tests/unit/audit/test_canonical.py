"""The bytes of an event, against another implementation of RFC 8785."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.canonical import NotCanonical, canonical, shown
from ext_authz.audit.ocsf import decision_event
from ext_authz.reasons import Reason
from tests.unit.audit.examples import denial, examples

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
SAFE_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
MODEST_FLOATS = st.floats(-(10**9), 10**9)
SCALARS = st.none() | st.booleans() | PRINTABLE | SAFE_INTEGERS | MODEST_FLOATS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner.filter(lambda each: each is not None), max_size=4)
        | st.dictionaries(PRINTABLE, inner, max_size=5)
    ),
    max_leaves=25,
)
EVENTS = st.dictionaries(PRINTABLE, VALUES, max_size=6)
ANY_TEXT = st.text(st.characters(codec="utf-8"))
NASTY_TEXT = st.text(st.sampled_from('\\u0041d83"\n\x7f\x00é😀'))


@given(EVENTS)
def test_our_bytes_are_those_of_rfc_8785(event: dict[str, Any]) -> None:
    line = canonical(event)

    assert line == rfc8785.dumps(json.loads(line))


@pytest.mark.parametrize("name", examples())
def test_the_bytes_of_every_kind_of_event_are_those_of_rfc_8785(name: str) -> None:
    line = canonical(examples()[name])

    assert line == rfc8785.dumps(json.loads(line))
    assert re.fullmatch(rb"[\x20-\x7e]+", line)


@given(EVENTS)
def test_nothing_is_lost_but_what_is_none_and_the_fourth_decimal(event: dict[str, Any]) -> None:
    assert json.loads(canonical(event)) == plain(event)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("value", "written"),
    [(1.0, b"1"), (0.0, b"0"), (-0.0, b"0"), (12.3456, b"12.346"), (1e3, b"1000"), (1e-5, b"0")],
)
def test_a_number_has_one_spelling(value: float, written: bytes) -> None:
    assert canonical({"a": value}) == b'{"a":%s}' % written


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**53),
        float("nan"),
        float("inf"),
        1e300,
        "é",
        "\x7f",
        "\ud800",
        b"bytes",
        {1: "a number for a name"},
        {"set"},
        pytest.param(object(), id="object"),
        [None],
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical({"a": value})


# ---- text of others


@given(ANY_TEXT | NASTY_TEXT)
def test_a_shown_text_is_printable_ascii_and_nothing_of_it_is_lost(text: str) -> None:
    found = shown(text)

    assert re.fullmatch(r"[\x20-\x7e]*", found)
    assert read_back(found) == text


@given(ANY_TEXT | NASTY_TEXT, ANY_TEXT | NASTY_TEXT)
def test_two_texts_are_never_shown_alike(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) is (one == other)


def read_back(text: str) -> str:
    r"""What `shown` was given: a text with `\u` in it was escaped, another was not."""
    if r"\u" not in text:
        return text
    units = re.sub(r"\\(\\|u([0-9a-f]{4}))", _unit, text)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _unit(found: re.Match[str]) -> str:
    return chr(int(found[2], 16)) if found[2] else "\\"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create_ticket", "create_ticket"),
        ('a "b" \\ c', 'a "b" \\ c'),
        ("caf\u00e9", r"caf\u00e9"),
        ("\u0441reate", r"\u0441reate"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\n\r\t\b\f\x7f", r"\u000a\u000d\u0009\u0008\u000c\u007f"),
        ("\U0001f600", r"\ud83d\ude00"),
        (r"\u0041", r"\\u0041"),
        ("\\\u00e9", r"\\\u00e9"),
    ],
)
def test_a_text_is_shown_with_its_escapes(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(ANY_TEXT | NASTY_TEXT, ANY_TEXT | NASTY_TEXT)
def test_whatever_a_client_sends_the_event_can_be_written(target: str, path: str) -> None:
    record = replace(denial(Reason.POLICY_DENIED), mcp_target=target, path=path)

    line = canonical(decision_event(record))

    assert line == rfc8785.dumps(json.loads(line))
