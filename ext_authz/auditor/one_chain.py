"""What is wrong with one chain, told from the runs that its lines make.

Records are known by their number. Put in order, their runs must meet end to end: where they do not,
records are missing, are there twice, or were written anew. As they stand, they must follow one another:
where they do not, they were moved. A line that is no intact record is told apart by its neighbours.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from ext_authz.audit.chain import BEGINNING
from ext_authz.auditor.findings import Break, Fact, Kind
from ext_authz.auditor.placed import Pieces, Placed
from ext_authz.auditor.walk import Odd, Run

FingerprintAt = Callable[[Placed, int], str]  # that of a record of a run, read from its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A run of the chain and where it stands."""

    placed: Placed
    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found in one chain; `first` and `last` are None where it holds no intact record.

    `intact` are the first and last of the records that follow one another without a break.
    """

    breaks: tuple[Break, ...]
    facts: tuple[Fact, ...]
    first: int | None
    last: int | None
    intact: tuple[tuple[int, int], ...]
    records: int


def check_chain(chain: str, pieces: Pieces, fingerprint_at: FingerprintAt) -> Checked:
    """Each break of the chain, in the order in which they stand."""
    check = _Check(chain, pieces, fingerprint_at)
    check.foreign()
    check.numbers()
    check.odd_lines()
    check.gaps()
    check.order()
    runs = check.runs
    breaks = [found for _, found in sorted(check.breaks, key=lambda each: each[0])]
    return Checked(
        breaks=tuple(breaks),
        facts=tuple(check.facts),
        first=runs[0].run.first if runs else None,
        last=max(each.run.last for each in runs) if runs else None,
        intact=tuple((each.run.first, each.run.last) for each in runs),
        records=sum(each.run.last - each.run.first + 1 for each in runs),
    )


class _Check:
    def __init__(self, chain: str, pieces: Pieces, fingerprint_at: FingerprintAt) -> None:
        self._chain = chain
        self._pieces = pieces
        self._fingerprint_at = fingerprint_at
        self._gaps: dict[int, tuple[int, Standing]] = {}  # first missing: last missing, run behind
        self.runs: list[Standing] = []  # by number, each record once
        self._firsts: list[int] = []
        self._doubles: set[int] = set()  # ranks
        self.breaks: list[tuple[int, Break]] = []
        self.facts: list[Fact] = []

    # -- what belongs to another chain

    def foreign(self) -> None:
        """Records of other chains, a break for each heap of them."""
        before = -2
        for placed in self._pieces:
            piece = placed.piece
            if not isinstance(piece, Run) or piece.chain == self._chain:
                continue
            if placed.rank != before + 1:
                self._break(
                    Kind.INSERTED,
                    placed,
                    None,
                    f"here stand records of another chain ({piece.chain}, from {piece.first}): "
                    "somebody put them there, or two services write into this file.",
                )
            before = placed.rank

    # -- the numbers, in their own order

    def numbers(self) -> None:
        """Finds what is missing, what is there twice, and what does not name the one before it."""
        standing = sorted(self._standing(), key=lambda each: (each.run.first, each.placed.rank))
        for each in standing:
            if not self.runs:
                self._beginning(each)
            elif not self._joins(each):
                continue
            self.runs.append(each)
            self._firsts.append(each.run.first)

    def _standing(self) -> Iterable[Standing]:
        for placed in self._pieces:
            if isinstance(placed.piece, Run) and placed.piece.chain == self._chain:
                yield Standing(placed=placed, run=placed.piece)

    def _beginning(self, each: Standing) -> None:
        run = each.run
        if run.first == 0 and run.previous != BEGINNING:
            self._break(Kind.REWRITTEN, each.placed, 0, "record 0 names a record before it.")

    def _joins(self, each: Standing) -> bool:
        """Whether the run brings records that none before it has."""
        last, run = self.runs[-1], each.run
        expected = last.run.last + 1
        if run.first > expected:
            self._gaps[expected] = (run.first - 1, each)
        elif run.first < expected:
            self._again(each, expected)
            return run.last >= expected
        elif run.previous != last.run.fingerprint:
            self._break(
                Kind.REWRITTEN,
                each.placed,
                run.first,
                f"record {run.first} does not follow the record {expected - 1} that stands here: "
                "one of the two was written anew.",
            )
        return True

    def _again(self, each: Standing, expected: int) -> None:
        """Numbers that were there before: the same records a second time, or others."""
        run = each.run
        other = self._standing_to(run.first) or self.runs[0]
        self._doubles.add(each.placed.rank)
        theirs = self._fingerprint_at(other.placed, run.first)
        ours = self._fingerprint_at(each.placed, run.first)
        many = f"records {run.first} to {min(run.last, expected - 1)}"
        what = f"record {run.first}" if min(run.last, expected - 1) == run.first else many
        at = f"{other.placed.file}:{other.placed.line + run.first - other.run.first}"
        if theirs == ours:
            self._break(Kind.DUPLICATED, each.placed, run.first, f"{what} stood already at {at}.")
        else:
            sentence = f"{what} stood already at {at}, with other contents: one was written anew."
            self._break(Kind.REWRITTEN, each.placed, run.first, sentence)

    # -- lines that are no record

    def odd_lines(self) -> None:
        """Each heap of lines that are no intact record, told by the records around it."""
        before: Placed | None = None
        heap: list[Placed] = []
        for placed in self._pieces:
            if isinstance(placed.piece, Odd):
                heap.append(placed)
                continue
            if heap:
                self._odd(before, heap, placed)
                heap = []
            if placed.piece.chain == self._chain:
                before = placed
        if heap:
            self._odd(before, heap, None)

    def _odd(self, before: Placed | None, heap: list[Placed], after: Placed | None) -> None:
        first, number = heap[0], self._number_of(before, heap, after)
        odd = first.piece
        if number is None or self._has(number):
            self._break(Kind.INSERTED, first, None, "a line that is no record of this chain.")
        elif isinstance(odd, Odd) and odd.is_open:
            self._open_end(first, number, after)
        else:
            gap = self._gaps.pop(number, None)
            missing = gap[0] if gap else number
            several = f"records {number} to {missing} are altered or missing"
            what = f"record {number} is altered" if missing == number else several
            is_record = isinstance(odd, Odd) and odd.claimed is not None
            why = "its bytes are not those of its fingerprint" if is_record else "it is no record"
            self._break(Kind.FLIPPED, first, number, f"{what}: of what stands here, {why}.")

    def _open_end(self, placed: Placed, number: int, after: Placed | None) -> None:
        """A last line without a newline: a crash leaves one, and so does whoever cuts a file."""
        sentence = f"{placed.file} ends in the middle of record {number}"
        if after is None:
            self._fact(
                "torn_tail",
                placed,
                number,
                f"{sentence}: it is being written, or a crash or somebody cut it off.",
            )
            return
        self._gaps.pop(number, None)
        self._break(Kind.TRUNCATED, placed, number, f"{sentence}: its end was cut off.")

    def _number_of(
        self, before: Placed | None, heap: list[Placed], after: Placed | None
    ) -> int | None:
        """The number of the record that should stand where `heap` stands."""
        if before is not None and isinstance(before.piece, Run):
            return before.piece.last + 1
        if after is not None and isinstance(after.piece, Run):
            return after.piece.first - 1 if after.piece.first else None
        claims = [each.piece.claimed for each in heap if isinstance(each.piece, Odd)]
        return next((claim.sequence for claim in claims if claim is not None), None)

    def _has(self, number: int) -> bool:
        standing = self._standing_to(number)
        return standing is not None and number <= standing.run.last

    # -- what is missing and left no trace

    def gaps(self) -> None:
        for first, (last, behind) in self._gaps.items():
            many = last > first
            what = f"records {first} to {last} are" if many else f"record {first} is"
            before = self._standing_to(first)
            if before is not None and before.placed.file != behind.placed.file:
                self._break(
                    Kind.TRUNCATED,
                    behind.placed,
                    first,
                    f"{what} missing between {before.placed.file} and {behind.placed.file}: the end "
                    "of the one or the beginning of the other was cut off, or a file between them is "
                    "missing.",
                )
            else:
                self._break(Kind.DROPPED, behind.placed, first, f"{what} missing before this line.")

    def _standing_to(self, number: int) -> Standing | None:
        index = bisect_right(self._firsts, number) - 1
        return self.runs[index] if index >= 0 else None

    # -- the order in which they stand

    def order(self) -> None:
        """A break where a record stands before one that should have come first."""
        following = {run.placed.rank: behind for run, behind in pairwise(self.runs)}
        standing = [e for e in self._standing() if e.placed.rank not in self._doubles]
        if standing and standing[0].placed.rank != self.runs[0].placed.rank:
            self._moved(standing[0], self.runs[0])
        for here, there in pairwise(standing):
            expected = following.get(here.placed.rank)
            if expected is None or there.run.first <= here.run.last:
                continue
            if expected.placed.rank > there.placed.rank:
                self._moved(there, expected)

    def _moved(self, found: Standing, expected: Standing) -> None:
        at = f"{expected.placed.file}:{expected.placed.line}"
        self._break(
            Kind.REORDERED,
            found.placed,
            found.run.first,
            f"record {found.run.first} stands before record {expected.run.first}, "
            f"which comes later, at {at}: their order was changed.",
        )

    # -- findings

    def _break(self, kind: Kind, at: Placed, sequence: int | None, sentence: str) -> None:
        found = Break(
            kind=kind,
            file=at.file,
            line=at.line,
            chain=self._chain,
            sequence=sequence,
            sentence=sentence,
        )
        self.breaks.append((at.rank, found))

    def _fact(self, kind: str, at: Placed, sequence: int | None, sentence: str) -> None:
        self.facts.append(
            Fact(
                kind=kind,
                file=at.file,
                line=at.line,
                chain=self._chain,
                sequence=sequence,
                sentence=sentence,
            )
        )
