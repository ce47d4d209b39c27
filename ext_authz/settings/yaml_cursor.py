"""A position in a YAML file that knows its key path and line, and gathers faults as it is read.

PyYAML builds the node tree; reading goes over nodes and not over plain dicts, so that every fault
can name its line, and so that duplicate and unknown keys are seen at all.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import yaml

MAX_BYTES: Final = 4 * 1024 * 1024
_NOT_A_TEXT: Final = ("is not a text", "Write a plain or quoted text, on one line.")
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong: where (file, line, key), what, and what to do about it."""

    file: str
    line: int
    key: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.problem}. {self.fix}"


class SettingsInvalid(Exception):
    """The settings cannot be used; `faults` holds all of them, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class Faults:
    """The faults found so far in one file: one a place, since what follows from it is no news."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[tuple[int, str], Fault] = {}

    @property
    def found(self) -> list[Fault]:
        return sorted(self._found.values(), key=lambda fault: fault.line)

    def add(self, line: int, key: str, problem: str, fix: str) -> None:
        fault = Fault(file=self.file, line=line, key=key, problem=problem, fix=fix)
        self._found.setdefault((line, key), fault)


class Cursor:
    """One node of the tree. Reading a member never raises: it notes the fault and gives a default."""

    def __init__(self, node: yaml.Node, key: str, faults: Faults, line: int | None = None) -> None:
        self.node = node
        self.key = key
        self.faults = faults
        self.line = line or _line(node)
        self._members = self._read_members() if isinstance(node, yaml.MappingNode) else {}
        self._seen: set[str] = set()

    def fault(self, problem: str, fix: str) -> None:
        """Notes that something is wrong here."""
        self.faults.add(self.line, self.key, problem, fix)

    def names(self) -> list[str]:
        """The member names of a mapping, in the order of the file."""
        return list(self._members)

    def get(self, name: str) -> "Cursor | None":
        """The member `name` where there is one that is not null."""
        self._seen.add(name)
        line, node = self._members.get(name, (0, None))
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return None
        return Cursor(node, self._path(name), self.faults, line)

    def need(self, name: str, fix: str) -> "Cursor | None":
        """As `get`, and a fault where the member is missing."""
        member = self.get(name)
        if member is None:
            line, _ = self._members.get(name, (self.line, None))
            self.faults.add(line, self._path(name), "is missing", fix)
        return member

    def is_mapping(self) -> bool:
        """Whether this is a mapping; a fault where it is not."""
        if isinstance(self.node, yaml.MappingNode):
            return True
        self.fault("is not a mapping", "Write `key: value` lines under it.")
        return False

    def items(self) -> Iterator["Cursor"]:
        """The members of a sequence; a fault where this is none."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fault("is not a list", "Write it as a list: `[a, b]`, or one `- ` line each.")
            return
        for index, node in enumerate(self.node.value):
            yield Cursor(node, f"{self.key}[{index}]", self.faults)

    def text(self) -> str:
        """The text of a scalar; "" with a fault where this is none, empty, or cannot be printed."""
        text = _text(self.node)
        if not text:
            self.fault(*_NOT_A_TEXT)
        return text

    def texts(self) -> tuple[str, ...]:
        """The texts of a sequence."""
        return tuple(item.text() for item in self.items())

    def choice(self, kind: type[Choice], default: Choice) -> Choice:
        """One of the values of `kind`; `default` with a fault where this is none of them."""
        text = self.text()
        if text in set(kind):
            return kind(text)
        self.fault("is not one of the choices", f"Use of: {', '.join(kind)}.")
        return default

    def seconds(self, *, most: float) -> float:
        """A positive number of seconds up to `most`."""
        return self.number("seconds", most=most)

    def number(self, unit: str, *, most: float) -> float:
        """A positive number of `unit` up to `most`."""
        text = self.text()
        value = float(text) if _NUMBER.fullmatch(text) else 0.0
        if not 0 < value <= most:
            self.fault(f"is not a usable number of {unit}", f"Write a number up to {most:g}.")
            return most
        return value

    def flag(self) -> bool:
        """True or false; False with a fault where this is neither."""
        text = self.text()
        if text not in {"true", "false"}:
            self.fault("is neither true nor false", "Write `true` or `false`.")
        return text == "true"

    def refuse_unknown(self) -> None:
        """Notes a fault for every member that nobody asked for: call it last."""
        known = ", ".join(sorted(self._seen))
        for name, (line, _) in self._members.items():
            if name not in self._seen:
                fix = f"Known here: {known}."
                self.faults.add(line, self._path(name), "is not a known key", fix)

    def _read_members(self) -> dict[str, tuple[int, yaml.Node]]:
        members: dict[str, tuple[int, yaml.Node]] = {}
        for key, value in self.node.value:
            text = _text(key)
            name = text or "?"
            if not text:
                self.faults.add(_line(key), self._path(name), *_NOT_A_TEXT)
            if name in members:
                self.faults.add(_line(key), self._path(name), "stands twice", "Keep one of them.")
            members.setdefault(name, (_line(key), value))
        return members

    def _path(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


def _line(node: yaml.Node) -> int:
    """The line in the file, from 1."""
    return int(node.start_mark.line) + 1


def _text(node: yaml.Node) -> str:
    """The text of a scalar, "" where it is none; what any other node holds stays unread.

    By an alias, a mapping can be a key of its own.
    """
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    return text if text.strip() and text.isprintable() else ""


def open_yaml(file: str) -> Cursor:
    """The root of the YAML file; raises `SettingsInvalid` where there is none to read."""
    return parse_yaml(read_document(file), Faults(file))


def read_document(file: str) -> bytes:
    """What stands in the file; raises `SettingsInvalid` where it cannot be read."""
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - the name is shown as it was given
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        faults = Faults(file)
        faults.add(0, "file", f"cannot be read: {error.strerror}", "Give the path of a YAML file.")
        raise SettingsInvalid(faults.found) from None


def parse_yaml(document: bytes, faults: Faults) -> Cursor:
    """The root of `document`; raises `SettingsInvalid` where it is no YAML mapping."""
    node = _compose(document, faults)
    if not isinstance(node, yaml.MappingNode):
        faults.add(1, "file", "is not one YAML mapping", "Write `key: value` lines.")
        raise SettingsInvalid(faults.found)
    return Cursor(node, "", faults)


def _compose(document: bytes, faults: Faults) -> yaml.Node | None:
    if len(document) > MAX_BYTES:
        faults.add(1, "file", "is too large", f"Keep it under {MAX_BYTES} bytes.")
        raise SettingsInvalid(faults.found)
    try:
        return yaml.compose(document, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        faults.add(line, "file", "is not valid YAML", "Check indentation and quotes there.")
        raise SettingsInvalid(faults.found) from None
