"""Which processor core runs whom: what is measured has one for itself, what asks has another.

On a machine with two cores the parties would else push one another about, and a figure would say how the
scheduler felt. Where there is only one core, or no way to choose, everybody shares.
"""

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final

_MAY_RUN_ON: Final[tuple[int, ...]] = (
    tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_setaffinity") else ()
)
SERVER: Final[AbstractSet[int]] = frozenset(_MAY_RUN_ON[:1])
GENERATOR: Final[AbstractSet[int]] = frozenset(_MAY_RUN_ON[1:2]) or SERVER


@contextmanager
def pinned(core: AbstractSet[int]) -> Iterator[None]:
    """Keeps this thread, and every process and thread that it starts meanwhile, on `core`."""
    if not core:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
