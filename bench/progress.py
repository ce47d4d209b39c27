"""What is going on, on stderr: the table on stdout stays clean."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_BEGAN: Final = time.monotonic()


def say(what: str) -> None:
    """A line with the seconds since the start."""
    print(f"{time.monotonic() - _BEGAN:5.0f} s  {what}", file=sys.stderr, flush=True)


def rounds(part: str, number: int) -> Iterator[int]:
    """So many rounds, each told when it begins."""
    for each in range(1, number + 1):
        say(f"{part}: round {each} of {number}")
        yield each


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tells when the block begins and how long it took."""
    say(what)
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.0f} s")
