"""A verification's report for people."""

from collections.abc import Iterable
from typing import Final

from ext_authz.auditor.findings import Break, ChainSummary, Fact, Report

_MOST: Final = 100  # breaks or facts that are spelled out


def report_text(report: Report) -> Iterable[str]:
    """Lines: the verdict first, then each break, then facts, and what was not proven."""
    records = f"{report.records} records in {report.files} files"
    if report.is_intact:
        yield f"INTACT: {records}."
    else:
        first = report.breaks[0]
        yield f"TAMPERED: {len(report.breaks)} breaks in {records}. The first: {first.file}:{first.line}."
    yield from _listed("breaks", [_break(each) for each in report.breaks])
    yield from _listed("chains", [_chain(each) for each in report.chains])
    yield from _listed("what the log says of itself", [_fact(each) for each in report.facts])
    yield from _listed("not proven", list(report.unproven))


def _listed(title: str, sentences: list[str]) -> Iterable[str]:
    if sentences:
        yield ""
        yield f"{title}:"
    for sentence in sentences[:_MOST]:
        yield f"  {sentence}"
    if len(sentences) > _MOST:
        yield f"  ... and {len(sentences) - _MOST} more"


def _break(found: Break) -> str:
    place = f"{found.file}:{found.line}"
    number = "" if found.sequence is None else f" record {found.sequence}"
    return f"{place}: {found.kind}: chain {found.chain or '?'}{number}: {found.sentence}"


def _fact(found: Fact) -> str:
    return f"{found.file}:{found.line}: {found.kind}: record {found.sequence}: {found.sentence}"


def _chain(found: ChainSummary) -> str:
    signed = "none" if found.signed_to is None else f"to {found.signed_to}"
    return (
        f"{found.chain}: records {found.first} to {found.last} in {len(found.files)} files, "
        f"{found.checkpoints} checkpoints; checked signatures: {signed}"
    )
