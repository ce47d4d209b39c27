"""Reads what a chain file holds, by hand and not by the product's own reader."""

import hashlib
import re
from pathlib import Path
from typing import Any

import orjson

FINGERPRINT = re.compile(rb'"fingerprint":"([0-9a-f]{64})",')


def event(name: str) -> bytes:
    """A canonical event that can be told from others."""
    return b'{"name":"%s","unmapped":{"event":"decision"}}' % name.encode()


def events_in(*files: Path) -> list[dict[str, Any]]:
    """Every record of `files`, which must all be JSON."""
    return [orjson.loads(line) for file in files for line in whole_lines(file)]


def whole_lines(file: Path) -> list[bytes]:
    lines = file.read_bytes().split(b"\n")
    assert lines.pop() == b""
    return lines


def names_in(*files: Path) -> list[str]:
    return [found["name"] for found in events_in(*files) if "name" in found]


def kinds_in(*files: Path) -> list[str]:
    return [found["unmapped"]["event"] for found in events_in(*files)]


def data_of(kind: str, *files: Path) -> dict[str, Any]:
    """What the one log event of `kind` says."""
    (found,) = [found for found in events_in(*files) if found["unmapped"]["event"] == kind]
    data: dict[str, Any] = found["unmapped"]["log"][kind]
    return data


def assert_one_chain(lines: list[bytes]) -> None:
    """Number, hash and the hash before: each as its definition has it."""
    previous, uids = "0" * 64, set()
    for number, line in enumerate(lines):
        integrity = orjson.loads(line)["unmapped"]["record_integrity"]
        found = FINGERPRINT.findall(line)[-1]
        without = line.replace(b'"fingerprint":"%s",' % found, b"")
        assert integrity["sequence"] == number
        assert integrity["prev_fingerprint"] == previous
        assert integrity["fingerprint"] == hashlib.sha256(without).hexdigest()
        previous = integrity["fingerprint"]
        uids.add(integrity["chain_uid"])
    assert len(uids) == 1
