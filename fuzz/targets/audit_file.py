"""Files of the audit log: whatever they hold, an auditor gets an answer, or one sentence on why not.

An input is a file; or, behind an empty first line, events as they were before they were linked, since a
fuzzer cannot guess hashes. In those, `$HEAD` stands for the hash of the record before, `$KEY` for the
id of the signing key; a line that does not end as an event does stands as it is.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from ext_authz.audit.chain import BEGINNING, Head, Link, NotLinked, link, unlink
from ext_authz.audit.checkpoint import key_id
from ext_authz.auditor.files import BadInput, Source, find_source
from ext_authz.auditor.findings import Report
from ext_authz.auditor.report_text import report_text
from ext_authz.auditor.show import AsStored, AsTable, show
from ext_authz.auditor.sums import Asked, stats
from ext_authz.auditor.sums_text import sums_text
from ext_authz.auditor.table import NARROWEST
from ext_authz.auditor.verify import verify
from ext_authz.auditor.wanted import Wanted
from tests.unit.auditor.chains import PRIVATE

KEY: Final = PRIVATE.public_key()
FOLDER: Final = tempfile.TemporaryDirectory()
FILE: Final = Path(FOLDER.name) / "audit.jsonl"
NOW: Final = 1_795_000_000_000
ASKED: Final = Asked(since=None, until=None, now=NOW, outcome_ms=0)


def one_input(data: bytes) -> None:
    content = linked(data)
    FILE.write_bytes(content)
    source = find_source(str(FILE))
    readers: list[Callable[[Source, bytes], None]] = [_verify, _show, _stats]
    for read in readers:
        with suppress(BadInput):
            read(source, content)


def linked(data: bytes) -> bytes:
    """The file that an input stands for."""
    if not data.startswith(b"\n"):
        return data
    head, lines = Head("0" * 32, -1, BEGINNING), []
    for each in data[1:].split(b"\n"):
        event = each.replace(b"$HEAD", head.fingerprint.encode())
        event = event.replace(b"$KEY", key_id(KEY).encode())
        line = event + b"\n"
        if event.endswith(b"}}"):
            line, head = link(event, head)
        lines.append(line)
    return b"".join(lines)[:-1]


def _verify(source: Source, content: bytes) -> None:
    for keys in ([], [KEY]):
        report = verify([source], keys=keys, workers=1)
        _assert_shows(list(report_text(report)))
        if report.is_intact and not source.is_gzip:
            _assert_intact(content, report)


def _show(source: Source, _content: bytes) -> None:
    for width in (None, NARROWEST):
        lines = show([source], Wanted(), AsTable(width), limit=None, follow=False)
        _assert_shows([line for line in lines if line is not None])
    assert all(show([source], Wanted(), AsStored(), limit=1, follow=False))


def _stats(source: Source, _content: bytes) -> None:
    _assert_shows(list(sums_text(stats([source], ASKED), top=10)))


def _assert_shows(lines: Sequence[str]) -> None:
    """Nothing in a file steers the terminal of whoever looks at it."""
    for line in lines:
        assert line.isprintable(), line


def _assert_intact(content: bytes, report: Report) -> None:
    """What is called intact is records that follow each other, but for what the log calls torn."""
    links = [_link(line) for line in content.split(b"\n") if line]
    torn = sum(fact.kind in {"torn", "torn_tail"} for fact in report.facts)
    if not torn:
        assert all(each and each.is_intact for each in links)
    intact = [each for each in links if each and each.is_intact]
    assert report.records == len(intact)
    for before, behind in pairwise(intact):
        assert (behind.sequence, behind.previous) == (before.sequence + 1, before.fingerprint)


def _link(line: bytes) -> Link | None:
    try:
        return unlink(line)
    except NotLinked:
        return None
