"""docs/audit.md says what events hold: each field of an event is told there, and nothing else is."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ext_authz._protos.audit_event_pb2 import AuditEvent
from ext_authz.audit.ocsf import LOG_KINDS
from ext_authz.audit.otlp.attributes import _NAMES, _TARGETS
from ext_authz.reasons import Reason
from tests.unit.audit.examples import FILE, PAGE, TORN, lines, page

TEXT = PAGE.read_text()
FIELDS = dict(
    re.findall(
        r"^\| `([a-z0-9_.\[\]]+)` \| (text|integer|number|boolean) \| \S", TEXT, re.MULTILINE
    )
)
EVENTS = [json.loads(line) for line in FILE.read_bytes().splitlines() if line != TORN]
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of an event that has no parts, with its path."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, f"{path}[]")
    else:
        yield path, value


def described(message: Any, path: str = "") -> Iterator[str]:
    """Each path of the schema in protos/."""
    for field in message.fields:
        name = f"{path}.{field.name}" if path else field.name
        name += "[]" if field.is_repeated else ""
        if field.message_type is None:
            yield name
        else:
            yield from described(field.message_type, name)


def test_the_examples_are_what_the_code_writes() -> None:
    """Where they differ: `python -m tests.unit.audit.examples`, and look at what changed."""
    assert FILE.read_bytes() == lines()


def test_the_page_is_made_of_the_examples() -> None:
    assert page(TEXT) == TEXT


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
def test_every_field_is_told_with_its_type(event: dict[str, Any]) -> None:
    for path, value in leaves(event):
        assert path in FIELDS
        assert isinstance(value, TYPES[FIELDS[path]]), path


def test_the_page_and_the_schema_in_protos_have_the_same_fields() -> None:
    assert set(FIELDS) == set(described(AuditEvent.DESCRIPTOR))


def test_every_field_stands_in_an_example() -> None:
    """Save one for a file that goes on after another, and one for a call that Envoy names no method of."""
    shown = {path for event in EVENTS for path, _ in leaves(event)}
    rare = {"unmapped.outcome.http_method", "unmapped.log.opened.previous"}

    assert set(FIELDS) - shown == rare


def test_every_kind_has_its_row_and_its_example() -> None:
    kinds = {"decision", "correction", "outcome", "outcome_missing"} | LOG_KINDS

    assert set(re.findall(r"^\| `([a-z_]+)` \| (?:6003|0) \|", TEXT, re.MULTILINE)) == kinds
    assert {event["unmapped"]["event"] for event in EVENTS} == kinds


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_code_has_an_example_on_the_line_that_its_row_names(reason: Reason) -> None:
    found = re.search(rf"^\| `{reason}` \|.* (\d+) \|$", TEXT, re.MULTILINE)

    assert found is not None
    assert EVENTS[int(found[1]) - 1]["status_code"] == reason.value


def test_the_table_of_opentelemetry_is_the_one_that_collectors_are_sent() -> None:
    chapter = TEXT.partition("## OpenTelemetry\n")[2].partition("\n## ")[0]
    targets = {f"`resources[].name` of a `{kind}`": name for kind, name in _TARGETS.items()}

    rows = dict(re.findall(r"^\| (`.*?`.*?) \| `(.*?)` \|$", chapter, re.MULTILINE))
    assert rows == {f"`{path}`": name for name, path in _NAMES.items()} | targets


def test_every_path_that_collectors_are_sent_is_a_field() -> None:
    assert set(_NAMES.values()) <= set(FIELDS)
