"""HTTP messages as text that a person can read and a fuzzer can bend.

A first line, header lines, an empty line, the body; without the empty line there is no body.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpText:
    """`first` is the method or the status; header names are in lower case."""

    first: str
    headers: Mapping[str, str]
    body: bytes | None


def read_http(data: bytes) -> HttpText | None:
    """The message in `data`; None where its head is not UTF-8, as no other reaches our readers."""
    head, gap, body = data.partition(b"\n\n")
    try:
        first, *lines = head.decode().split("\n")
    except UnicodeDecodeError:
        return None
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return HttpText(first=first, headers=headers, body=body if gap else None)
