"""What the audit says of each Check, as flat records."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from ext_authz.auditor.decisions import DECISIONS, decision_of


def records_in(file: Path | bytes) -> list[dict[str, Any]]:
    """The record of each Check, in the order of the log; two for one Check are two here too.

    A correction stands in the place of what it corrects.
    """
    records: list[dict[str, Any]] = []
    for record in said_in(file if isinstance(file, bytes) else _content(file)):
        if record["is_correction"]:
            index = [each["decision_id"] for each in records].index(record["decision_id"])
            records[index] = record
        else:
            records.append(record)
    return records


def said_in(lines: bytes) -> Iterator[dict[str, Any]]:
    """Each decision and each correction, as it stands in the log."""
    for event in map(orjson.loads, lines.split(b"\n")[:-1]):
        if event["unmapped"]["event"] in DECISIONS:
            yield asdict(decision_of(event))


def _content(file: Path) -> bytes:
    """Nothing where nothing was recorded yet."""
    return file.read_bytes() if file.exists() else b""
