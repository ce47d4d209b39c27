"""Finds one record of a run in its file, by halving: the numbers in it only ever grow by one."""

import contextlib
from collections.abc import Mapping
from typing import Final

from ext_authz.audit.chain import Link, unlink
from ext_authz.auditor.files import Data, Source, opened
from ext_authz.auditor.placed import Placed
from ext_authz.auditor.walk import Run

_NEAR: Final = 64 * 1024  # bytes: from here on, line by line


class Records:
    """Reads single records. Files stay open from their first use until `close`."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._open: dict[str, Data] = {}
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        self._stack.close()

    def fingerprint_at(self, placed: Placed, number: int) -> str:
        """The fingerprint of record `number` of the run at `placed`."""
        run = placed.piece
        if not isinstance(run, Run):
            raise TypeError
        return link_in(self._data(placed.file), run, number).fingerprint

    def _data(self, name: str) -> Data:
        if name not in self._open:
            self._open[name] = self._stack.enter_context(opened(self._sources[name]))
        return self._open[name]


def link_in(data: Data, run: Run, number: int) -> Link:
    """What record `number` of `run` says of itself."""
    start, end = run.offset, run.end
    while end - start > _NEAR:
        middle = data.find(b"\n", (start + end) // 2, end) + 1
        if not middle or middle >= end:
            break
        if _link_at(data, middle).sequence <= number:
            start = middle
        else:
            end = middle
    link = _link_at(data, start)
    while link.sequence < number:
        start = data.find(b"\n", start) + 1
        link = _link_at(data, start)
    return link


def _link_at(data: Data, offset: int) -> Link:
    end = data.find(b"\n", offset)
    return unlink(data[offset : end if end >= 0 else len(data)])
