"""Finds lines without reading them all: by words that they must hold, and by their time.

A file of a million records is gigabytes. A search for bytes passes over it at the memory's pace, and only
the lines that it stops at are parsed.
"""

import re
from collections.abc import Container, Iterator, Sequence
from typing import Final

from ext_authz.auditor.files import Data
from ext_authz.auditor.parts import parts

_TIME: Final = re.compile(rb'"time":(\d{1,15}),"time_dt"')
_DECISION: Final = b'"event":"decision"'
_SLACK: Final = (
    5 * 60 * 1000
)  # milliseconds: records are written at a Check's end, with its beginning's time
_NEAR: Final = 256 * 1024  # bytes: halving goes no further


def lines_with(
    data: Data, needles: Sequence[bytes], start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Each whole line between two beginnings of lines that holds all `needles`, and its offset.

    The first needle should be the rarest. Without any, each line is given.
    """
    for begin, stop in parts(data, start, len(data) if end is None else end):
        block = data[begin:stop]
        found = _hits(block, needles) if needles else _each(block)
        for offset, line in found:
            yield begin + offset, line


def lines_of(
    data: Data, pattern: re.Pattern[bytes], wanted: Container[bytes], start: int = 0
) -> Iterator[tuple[bytes, int]]:
    """What the pattern's group takes from lines, where it is `wanted`, and the offsets of the lines."""
    for begin, stop in parts(data, start, len(data)):
        block = data[begin:stop]
        for found in pattern.finditer(block):
            if found[1] in wanted:
                yield found[1], begin + block.rfind(b"\n", 0, found.start()) + 1


def _hits(block: bytes, needles: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    rarest, *others = needles
    hit = block.find(rarest)
    while hit >= 0:
        begin, end = block.rfind(b"\n", 0, hit) + 1, block.find(b"\n", hit)
        if end < 0:
            return  # it is still being written
        line = block[begin:end]
        if all(needle in line for needle in others):
            yield begin, line
        hit = block.find(rarest, end)


def _each(block: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    lines = block.split(b"\n")
    for line in lines[:-1]:
        yield offset, line
        offset += len(line) + 1


def line_at(data: Data, offset: int) -> bytes:
    """The line that begins at `offset`."""
    end = data.find(b"\n", offset)
    return data[offset : end if end >= 0 else len(data)]


def time_of(line: bytes) -> int | None:
    """The event's time in milliseconds since 1970, as it stands in the line."""
    found = _TIME.search(line)
    return int(found[1]) if found else None


def span_of(data: Data, since: int | None, until: int | None) -> tuple[int, int]:
    """Where the decisions between two times (milliseconds since 1970) can stand: two beginnings of lines."""
    start = 0 if since is None else _first_from(data, since - _SLACK)
    end = len(data) if until is None else _first_from(data, until + _SLACK)
    return start, end


def _first_from(data: Data, time: int) -> int:
    """The beginning of a line before which every decision is earlier than `time`."""
    low, high = 0, len(data)
    while high - low > _NEAR:
        middle = data.find(b"\n", (low + high) // 2, high) + 1
        found = _next_decision(data, middle, high) if middle else None
        if found is None:
            high = middle or (low + high) // 2
            continue
        if found >= time:
            high = middle
        else:
            low = middle
    return _refined(data, low, high, time)


def _refined(data: Data, low: int, high: int, time: int) -> int:
    for offset, line in lines_with(data, [_DECISION], low, high):
        moment = time_of(line)
        if moment is not None and moment >= time:
            return offset
    return high


def _next_decision(data: Data, start: int, end: int) -> int | None:
    """The time of the first decision from `start` on."""
    for _, line in lines_with(data, [_DECISION], start, end):
        return time_of(line)
    return None
