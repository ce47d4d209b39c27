"""YAML files as such: what is one, and where a fault in it stands."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.settings.yaml_cursor import (
    MAX_BYTES,
    Cursor,
    Fault,
    Faults,
    SettingsInvalid,
    open_yaml,
    parse_yaml,
)


def faults_of(document: bytes) -> list[tuple[int, str, str]]:
    """Line, key and problem of what makes `document` unreadable."""
    with pytest.raises(SettingsInvalid) as invalid:
        parse_yaml(document, Faults("settings.yaml"))
    return [(fault.line, fault.key, fault.problem) for fault in invalid.value.faults]


def cursor_at(document: str) -> Cursor:
    return parse_yaml(document.encode(), Faults("settings.yaml"))


def test_a_file_is_opened_under_the_name_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("listen: x\n")
    cursor = open_yaml(str(file))

    assert cursor.names() == ["listen"]
    assert cursor.faults.file == str(file)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.yaml", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_opened_is_a_fault(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        open_yaml(str(tmp_path / name))

    assert [(fault.line, fault.problem) for fault in invalid.value.faults] == [(0, problem)]


@pytest.mark.parametrize("document", [b"", b"# nothing\n", b"[]", b"- a", b"text", b"null", b"---"])
def test_what_is_not_a_mapping_is_a_fault(document: bytes) -> None:
    assert faults_of(document) == [(1, "file", "is not one YAML mapping")]


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (b"a: 1\nb: [\n", 3),
        (b"a: 1\n b: 2\n", 2),
        (b"a: 1\n\tb: 2\n", 2),
        (b"a: 'x\n", 2),
        (b"a: *b\n", 1),
        (b"a: 1\n---\nb: 1\n", 2),
        (b"%YAML 3.0\n---\na: 1\n", 1),
        (b"a: 1\nb: \xff\n", 1),
        (b"a: \0\n", 1),
        (b'a: "\\UFFFFFFFF"\n', 1),
        (b'a: "\\U00110000"\n', 1),
        (b"a: " + b"{a: " * 2_000, 1),
        (b"- " * 2_000, 1),
    ],
)
def test_what_is_not_yaml_is_a_fault_at_its_line(document: bytes, line: int) -> None:
    assert faults_of(document) == [(line, "file", "is not valid YAML")]


def test_too_large_a_file_is_a_fault() -> None:
    assert faults_of(b"a: 1\n".ljust(MAX_BYTES + 1, b"#")) == [(1, "file", "is too large")]


@given(st.binary() | st.text("abc:-[]{}&*!|>'\"%@`#,? \n\t\\U0").map(str.encode))
def test_any_bytes_are_a_mapping_or_a_fault(document: bytes) -> None:
    try:
        cursor = parse_yaml(document, Faults("settings.yaml"))
    except SettingsInvalid as invalid:
        assert invalid.faults  # noqa: PT017 - either outcome is fine
    else:
        assert cursor.is_mapping()


def test_a_fault_says_where_and_what_and_the_fix() -> None:
    fault = Fault(file="envoy.yaml", line=3, key="listen", problem="is missing", fix="Give it.")

    assert str(fault) == "envoy.yaml:3: listen: is missing. Give it."
    assert str(SettingsInvalid([fault, fault])) == f"{fault}\n{fault}"


def test_a_member_knows_its_line_and_the_way_to_it() -> None:
    member = cursor_at("a:\n  b:\n  - c\n  - d: 1\n").get("a")
    assert member is not None
    found = member.get("b")
    assert found is not None

    assert [(item.line, item.key) for item in found.items()] == [(3, "a.b[0]"), (4, "a.b[1]")]


@pytest.mark.parametrize("document", ["a:\n", "a: null\n", "a: ~\n", "b: 1\n"])
def test_a_null_member_is_a_missing_one(document: str) -> None:
    assert cursor_at(document).get("a") is None


def test_an_alias_is_what_it_stands_for() -> None:
    cursor = cursor_at("a: &x [1, 2]\nb: *x\n").get("b")

    assert cursor is not None
    assert cursor.texts() == ("1", "2")


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ("a: 1\nb: 2\na: 3\n", "a"),
        ("x:\n  a: 1\n  a: 2\n", "x.a"),
        ('a: 1\n\n"a": 2\n', "a"),
        ("x: {a: 1, b: 2, 'a': 3}\n", "x.a"),
    ],
)
def test_a_key_that_stands_twice_is_one_fault_at_the_second(document: str, key: str) -> None:
    cursor = cursor_at(document)
    for _ in range(2):
        (cursor.get("x") or cursor).names()
    line = len(document.splitlines())

    assert [(fault.line, fault.key, fault.problem) for fault in cursor.faults.found] == [
        (line, key, "stands twice")
    ]


@pytest.mark.parametrize("key", ["[a, b]", "{a: b}", '""', "&x [*x]", "&x {? *x : b}"])
def test_a_key_that_is_no_text_is_a_fault(key: str) -> None:
    cursor = cursor_at(f"a: 1\n? {key}\n: 2\n")

    assert cursor.names() == ["a", "?"]
    assert [(fault.line, fault.key, fault.problem) for fault in cursor.faults.found] == [
        (2, "?", "is not a text")
    ]


@pytest.mark.parametrize(
    "value",
    ["[x]", "{x: y}", '""', "'  '", '"a\\0b"', '"a\\nb"', '"\\uD800"', '"\\e[2J"', "|\n  a\n  b"],
)
def test_a_text_is_one_line_of_what_can_be_printed(value: str) -> None:
    cursor = cursor_at(f"a: {value}\n")
    member = cursor.get("a")
    assert member is not None

    assert member.text() == ""
    assert [(fault.key, fault.problem) for fault in cursor.faults.found] == [("a", "is not a text")]


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), ("'x y'", "x y"), ("5", "5"), ("yes", "yes"), ("größe", "größe")],
)
def test_a_scalar_of_any_kind_is_a_text(value: str, text: str) -> None:
    member = cursor_at(f"a: {value}\n").get("a")

    assert member is not None
    assert member.text() == text
