"""OCSF 1.8.0's own rules, held against an event: ocsf-1.8.0.json is its schema, compiled."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

SCHEMA: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("ocsf-1.8.0.json").read_text())
_OTHER: Final = 99
_OF_THE_CLASS: Final = {"activity_name", "type_name"}  # every class has words of its own
_PYTHON_TYPES: Final = {"string_t": str, "integer_t": int, "long_t": int, "boolean_t": bool}

Plain = Mapping[str, Any]


def violations(event: Plain) -> list[str]:
    """Each rule that `event` breaks, with the path where it does; none for an event of OCSF."""
    kind = SCHEMA["classes"].get(str(event.get("class_uid")))
    if kind is None:
        return ["class_uid: no class that we have the rules of"]
    profiles = set(event["metadata"].get("profiles", ()))
    found = list(_object(event, kind, "", profiles))
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        found.append("type_uid: not class_uid * 100 + activity_id")
    return found


def _object(value: Plain, rules: Plain, path: str, profiles: set[str]) -> Iterator[str]:
    attributes = rules["attributes"]
    for name, rule in attributes.items():
        if rule["requirement"] == "required" and name not in value and "profile" not in rule:
            yield f"{path}{name}: required"
    for name, member in value.items():
        if name not in attributes:
            yield f"{path}{name}: unknown to OCSF"
        else:
            yield from _attribute(member, attributes[name], f"{path}{name}", profiles)
            yield from _siblings(value, name, attributes[name], path)
    needed = rules.get("constraints", {}).get("at_least_one")
    if needed and not set(needed) & value.keys():
        yield f"{path}: none of {needed}"


def _attribute(value: Any, rule: Plain, path: str, profiles: set[str]) -> Iterator[str]:
    if rule.get("profile") is not None and rule["profile"] not in profiles:
        yield f"{path}: of the profile {rule['profile']}, which the event does not name"
    if not rule.get("is_array"):
        yield from _one(value, rule, path, profiles)
    elif not isinstance(value, list):
        yield f"{path}: no array"
    else:
        for each in value:
            yield from _one(each, rule, f"{path}[]", profiles)


def _one(value: Any, rule: Plain, path: str, profiles: set[str]) -> Iterator[str]:
    name = rule["type"]
    if name == "object":
        if not isinstance(value, dict):
            yield f"{path}: no object"
    elif name in SCHEMA["objects"]:
        yield from _object(value, SCHEMA["objects"][name], f"{path}.", profiles)
    elif name in SCHEMA["types"]:
        yield from _scalar(value, name, path)
        if "enum" in rule and str(value) not in rule["enum"]:
            yield f"{path}: {value!r} is none of its values"
    else:
        yield f"{path}: an object that we have no rules of"


def _scalar(value: Any, name: str, path: str) -> Iterator[str]:
    rule = SCHEMA["types"][name]
    base = rule.get("base", name)
    kind = _PYTHON_TYPES[base]
    if type(value) is not kind:
        yield f"{path}: no {base}"
    elif "regex" in rule and not re.search(rule["regex"], str(value)):
        yield f"{path}: {value!r} does not match {name}"
    elif len(str(value)) > rule.get("max_len", 10**6):
        yield f"{path}: too long for {name}"


def _siblings(value: Plain, name: str, rule: Plain, path: str) -> Iterator[str]:
    """An enumerated id and its caption agree; 99 (Other) needs a caption of one's own."""
    sibling, number = rule.get("sibling"), value[name]
    if sibling is None or "enum" not in rule or sibling in _OF_THE_CLASS:
        return
    text = value.get(sibling)
    if number == _OTHER:
        if not text or text == "Other":
            yield f"{path}{sibling}: missing beside Other"
    elif text is not None and text != rule["enum"].get(str(number)):
        yield f"{path}{sibling}: {text!r} is not the caption of {number}"
