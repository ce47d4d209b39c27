"""Reads a file as it grows, through rotation, as `tail -F` does."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

_BLOCK: Final = 1024 * 1024


class Tail:
    """The lines that a file gains from `offset` on.

    A file that was renamed is read to its end before its successor is; one that was cut is read anew.
    """

    def __init__(self, path: Path, offset: int, inode: int) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._start(offset, inode)

    def lines(self) -> Iterator[bytes]:
        """The whole lines that came since the last time, without their newlines."""
        yield from self._new_lines()
        if self._is_replaced():
            yield from self._new_lines()  # what came between the two looks
            self.close()
            self._start(0, None)
            yield from self._new_lines()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _start(self, offset: int, inode: int | None) -> None:
        """Opens the file; from its beginning where it is not the one that was meant."""
        try:
            self._file = self._path.open("rb")
        except OSError:
            return  # not there yet, between rename and creation: the next look finds it
        is_same = inode is None or os.fstat(self._file.fileno()).st_ino == inode
        self._file.seek(offset if is_same else 0)

    def _new_lines(self) -> Iterator[bytes]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        while block := self._file.read(_BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from lines

    def _is_replaced(self) -> bool:
        if self._file is None:
            return True
        try:
            named = self._path.stat()
        except OSError:
            return False
        return named.st_ino != os.fstat(self._file.fileno()).st_ino
