"""What a verification finds."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a chain is broken."""

    FLIPPED = "flipped"  # bytes of a record are not those that it was written with
    DROPPED = "dropped"
    TRUNCATED = "truncated"  # the end of a file, or of the chain, is missing
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    INSERTED = "inserted"  # what stands there belongs to no place of this chain
    REWRITTEN = "rewritten"  # intact in itself, but not what its neighbours or a checkpoint know
    UNSIGNED = "unsigned"  # a checkpoint that none of the given keys vouches for


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A place where the chain is broken. `line` counts from 1; `sequence` is None where none is known."""

    kind: Kind
    file: str
    line: int
    chain: str
    sequence: int | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a file says of itself and is no tampering; places as in `Break`."""

    kind: str
    file: str
    line: int
    chain: str
    sequence: int | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSummary:
    """One chain: its records from `first` to `last`, in so many files.

    `signed_to` is the last record that a checkpoint with a checked signature stands behind, and
    `unsigned_records` how many come after it; `checkpoints` counts all, signed or not.
    """

    chain: str
    files: tuple[str, ...]
    first: int
    last: int
    records: int
    checkpoints: int
    signed_to: int | None
    unsigned_records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of it; `unproven` says in sentences what these files cannot show."""

    files: int
    records: int
    chains: tuple[ChainSummary, ...]
    breaks: tuple[Break, ...]
    facts: tuple[Fact, ...]
    unproven: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        return not self.breaks
