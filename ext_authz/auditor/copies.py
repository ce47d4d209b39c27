"""Copies of checkpoints that were kept elsewhere: each must be found in the chain that is shown."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter

import orjson

from ext_authz.audit.chain import Link, NotLinked, unlink
from ext_authz.auditor.files import BadInput, Source, opened
from ext_authz.auditor.findings import Break, Kind
from ext_authz.auditor.statements import Keys, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The records that are at hand of a chain, and the fingerprints of its checkpoints.

    `intact` are the first and last of the records that follow one another without a break.
    """

    first: int
    last: int
    intact: tuple[tuple[int, int], ...]
    checkpoints: Mapping[int, str]

    def holds(self, number: int) -> bool:
        """Whether this record is there, and is intact in itself."""
        index = bisect_right(self.intact, number, key=itemgetter(0)) - 1
        return index >= 0 and number <= self.intact[index][1]


def check_copies(source: Source, chains: Mapping[str, Span], keys: Keys) -> Iterable[Break]:
    """Each copy that is not what the chains hold; raises `BadInput` where the file holds no copies."""
    with opened(source) as data:
        lines = data[:].split(b"\n")
    lines.pop()  # what stands behind the last newline is being written, or was torn
    links = [_link(line) for line in lines]
    if not any(links):
        raise BadInput(f"{source.name}: holds no checkpoint. Give `audit.checkpoint.file`.")
    for number, (line, link) in enumerate(zip(lines, links, strict=True), 1):
        fault = _altered() if link is None else _fault(line, link, chains, keys)
        if fault is not None:
            kind, sentence = fault
            yield Break(
                kind=kind,
                file=source.name,
                line=number,
                chain=link.chain_uid if link else "",
                sequence=link.sequence if link else None,
                sentence=sentence,
            )


def _link(line: bytes) -> Link | None:
    try:
        return unlink(line)
    except NotLinked:
        return None


def _altered() -> tuple[Kind, str]:
    return Kind.FLIPPED, "this copy of a checkpoint is altered, or torn: it proves nothing."


def _fault(
    line: bytes, link: Link, chains: Mapping[str, Span], keys: Keys
) -> tuple[Kind, str] | None:
    if not link.is_intact:
        return _altered()
    try:
        judged = judge(link, orjson.loads(line), keys)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Kind.INSERTED, "this line is no checkpoint."
    if judged.fault is not None:
        return Kind.UNSIGNED, f"of this copy of a checkpoint, {judged.fault}"
    return _absence(link, chains.get(link.chain_uid))


def _absence(link: Link, span: Span | None) -> tuple[Kind, str] | None:
    """What it means that the chain does not hold this checkpoint; None where it does."""
    copy = f"checkpoint {link.sequence} of chain {link.chain_uid}, which was kept elsewhere,"
    if span is None:
        return Kind.DROPPED, f"{copy} belongs to a chain of which no file was given, or is left."
    if link.sequence > span.last:
        missing = f"its records {span.last + 1} to {link.sequence}, at least, were cut off."
        return Kind.TRUNCATED, f"{copy} lies beyond the chain's end: {missing}"
    if link.sequence < span.first:
        missing = f"its files up to record {span.first - 1} were not given, or are missing."
        return Kind.DROPPED, f"{copy} lies before what was given: {missing}"
    if not span.holds(link.sequence):
        return Kind.DROPPED, f"{copy} is missing, or altered, in what was given."
    if span.checkpoints.get(link.sequence) != link.fingerprint:
        return Kind.REWRITTEN, f"{copy} is not in the chain: records before it were written anew."
    return None
