"""`audit verify`: whether files are what was written, and what they cannot show."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ext_authz.auditor.copies import Span, check_copies
from ext_authz.auditor.files import BadInput, Source
from ext_authz.auditor.findings import Break, ChainSummary, Fact, Kind, Report
from ext_authz.auditor.locate import Records
from ext_authz.auditor.log_facts import facts_of
from ext_authz.auditor.one_chain import Checked, check_chain
from ext_authz.auditor.parts import walk_files
from ext_authz.auditor.placed import ChainFiles, WalkedFile, in_order
from ext_authz.auditor.statements import Keys, judge, keys_by_id
from ext_authz.auditor.unproven import unproven
from ext_authz.auditor.walk import LogLine, Run

_BEGINNINGS: Final = frozenset({"opened", "truncated", "torn", "unsynced"})


def verify(
    sources: Sequence[Source],
    *,
    keys: Sequence[Ed25519PublicKey] = (),
    copies: Sequence[Source] = (),
    workers: int | None = None,
) -> Report:
    """Verifies the files as a whole, in any order; `copies` are files of checkpoints kept elsewhere.

    Without `keys`, signatures are not checked. Raises `BadInput`.
    """
    walked = walk_files(sources, workers=workers)
    files = [
        WalkedFile(name=source.name, walked=each)
        for source, each in zip(sources, walked, strict=True)
    ]
    chains, without_records = in_order(files)
    _refuse_strangers(without_records)
    records = Records({source.name: source for source in sources})
    try:
        return _Verification(keys_by_id(list(keys)), records).report(len(files), chains, copies)
    finally:
        records.close()


def _refuse_strangers(files: Iterable[WalkedFile]) -> None:
    for file in files:
        if file.walked.lines:
            raise BadInput(f"{file.name}: holds no audit record. Name files of `audit.file` only.")


class _Verification:
    def __init__(self, keys: Keys, records: Records) -> None:
        self._keys = keys
        self._records = records
        self._breaks: list[Break] = []
        self._facts: list[Fact] = []
        self._spans: dict[str, Span] = {}
        self._proven: dict[str, int] = {}

    def report(self, files: int, chains: Sequence[ChainFiles], copies: Sequence[Source]) -> Report:
        summaries = [self._chain(each) for each in chains]
        for source in copies:
            self._breaks += check_copies(source, self._spans, self._keys)
        return Report(
            files=files,
            records=sum(each.records for each in summaries),
            chains=tuple(summaries),
            breaks=tuple(self._breaks),
            facts=tuple(self._facts),
            unproven=unproven(summaries, has_keys=bool(self._keys), has_copies=bool(copies)),
        )

    def _chain(self, files: ChainFiles) -> ChainSummary:
        checked = check_chain(files.chain, files.pieces(), self._records.fingerprint_at)
        log_lines = [each for each in files.log_lines() if each[1].link.chain_uid == files.chain]
        checkpoints = _checkpoints(log_lines)
        unsound = [
            found for name, each in checkpoints if (found := self._unsound(name, each)) is not None
        ]
        order = {file.name: rank for rank, file in enumerate(files.files)}
        self._breaks += sorted(
            [*_headless(files, checked, log_lines), *checked.breaks, *unsound],
            key=lambda each: (order[each.file], each.line),
        )
        self._facts += [*facts_of(log_lines), *checked.facts, *_open_ends(files)]
        self._spans[files.chain] = _span(checked, checkpoints)
        return self._summary(files, checked, len(checkpoints))

    def _unsound(self, file: str, each: LogLine) -> Break | None:
        """The break that a checkpoint is, or None; one that a key vouches for is noted."""
        judged = judge(each.link, each.event, self._keys)
        chain, sequence = each.link.chain_uid, each.link.sequence
        if judged.is_proven:
            self._proven[chain] = max(sequence, self._proven.get(chain, -1))
        if judged.fault is None:
            return None
        return Break(
            kind=Kind.REWRITTEN if judged.is_statement_wrong else Kind.UNSIGNED,
            file=file,
            line=each.line + 1,
            chain=chain,
            sequence=sequence,
            sentence=f"of this checkpoint, {judged.fault}",
        )

    def _summary(self, files: ChainFiles, checked: Checked, checkpoints: int) -> ChainSummary:
        first, last = checked.first or 0, -1 if checked.last is None else checked.last
        signed_to = self._proven.get(files.chain)
        return ChainSummary(
            chain=files.chain,
            files=tuple(file.name for file in files.files),
            first=first,
            last=last,
            records=checked.records,
            checkpoints=checkpoints,
            signed_to=signed_to,
            unsigned_records=last - (first - 1 if signed_to is None else signed_to),
        )


def _headless(
    files: ChainFiles, checked: Checked, log_lines: Sequence[tuple[str, LogLine]]
) -> Iterable[Break]:
    """A break where the chain's first file does not begin as the service begins each file.

    Where it does, the records before it stand in an earlier file, which need not be given.
    """
    first = checked.first
    if not first or any(found.sequence == first - 1 for found in checked.breaks):
        return
    found = next((each for _, each in log_lines if each.link.sequence == first), None)
    if found is None or found.kind not in _BEGINNINGS:
        yield Break(
            kind=Kind.DROPPED,
            file=files.files[0].name,
            line=1,
            chain=files.chain,
            sequence=first - 1,
            sentence=f"the records up to {first - 1} are missing: the file does not begin with the "
            "event that the service begins a file with.",
        )


def _checkpoints(log_lines: Sequence[tuple[str, LogLine]]) -> list[tuple[str, LogLine]]:
    return [(name, each) for name, each in log_lines if each.kind == "checkpoint"]


def _span(checked: Checked, checkpoints: Sequence[tuple[str, LogLine]]) -> Span:
    known: Mapping[int, str] = {
        each.link.sequence: each.link.fingerprint for _, each in checkpoints
    }
    last = -1 if checked.last is None else checked.last
    return Span(first=checked.first or 0, last=last, intact=checked.intact, checkpoints=known)


def _open_ends(files: ChainFiles) -> Iterable[Fact]:
    for file in files.files:
        run = file.walked.pieces[-1] if file.walked.ends_open else None
        if isinstance(run, Run):
            yield Fact(
                kind="torn_tail",
                file=file.name,
                line=file.walked.lines,
                chain=run.chain,
                sequence=run.last,
                sentence=f"{file.name} ends without a newline behind record {run.last}, which is whole.",
            )
