"""Files in the order in which their records were written, whatever order they are given in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ext_authz.auditor.walk import LogLine, Odd, Run, Walked


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedFile:
    """A file and what a walk over it found."""

    name: str
    walked: Walked


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A piece, the file that it stands in, and its rank among all pieces of its chain's files."""

    file: str
    rank: int
    piece: Run | Odd

    @property
    def line(self) -> int:
        """As people count, from 1."""
        return self.piece.line + 1


Pieces: TypeAlias = list[Placed]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFiles:
    """The files of one chain, in its order."""

    chain: str
    files: tuple[WalkedFile, ...]

    def pieces(self) -> Pieces:
        """Everything in them that no `torn` event excuses."""
        found = [
            (file.name, piece)
            for file in self.files
            for piece in file.walked.pieces
            if not (isinstance(piece, Odd) and _is_excused(piece, file.walked))
        ]
        return [
            Placed(file=name, rank=rank, piece=piece) for rank, (name, piece) in enumerate(found)
        ]

    def log_lines(self) -> list[tuple[str, LogLine]]:
        return [(file.name, each) for file in self.files for each in file.walked.log_lines]


def in_order(files: Sequence[WalkedFile]) -> tuple[list[ChainFiles], list[WalkedFile]]:
    """The files by chain, and those that hold no record at all."""
    chains: dict[str, list[tuple[int, int, WalkedFile]]] = {}
    empty = []
    for index, file in enumerate(files):
        place = _place(file.walked)
        if place is None:
            empty.append(file)
        else:
            chain, first = place
            chains.setdefault(chain, []).append((first, index, file))
    ordered = [
        ChainFiles(chain=chain, files=tuple(file for *_, file in sorted(found, key=_by_place)))
        for chain, found in chains.items()
    ]
    return ordered, empty


def _by_place(found: tuple[int, int, WalkedFile]) -> tuple[int, int]:
    return found[:2]


def _place(walked: Walked) -> tuple[str, int] | None:
    """The chain that most of the file is of, and the number that its longest run begins with.

    One record that was moved, or put there, thus moves no file.
    """
    runs = [piece for piece in walked.pieces if isinstance(piece, Run)]
    if runs:
        longest = max(runs, key=lambda run: run.last - run.first)
        return longest.chain, longest.first
    for piece in walked.pieces:
        if isinstance(piece, Odd) and piece.claimed is not None:
            return piece.claimed.chain_uid, piece.claimed.sequence
    return None


def _is_excused(odd: Odd, walked: Walked) -> bool:
    end = odd.offset + odd.length
    return any(start <= odd.offset and end <= stop for start, stop in walked.excused)
