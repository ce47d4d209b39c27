"""How a worker gets the settings that its parent has read and checked: over its standard input.

A worker that comes up later so runs on the very same ones, whatever stands in the file by then. The pipe
stays open behind them: when it ends, the parent is gone.
"""

from typing import Final

from ext_authz.cannot_serve import CannotServe

PIPE: Final = 0  # the worker's standard input
_LENGTH: Final = 8  # bytes


def packed(document: bytes) -> bytes:
    """What is written into the pipe."""
    return len(document).to_bytes(_LENGTH, "big") + document


def received(descriptor: int) -> bytes:
    """The document, as soon as it is there; raises `CannotServe` where the pipe ends before it does."""
    with open(descriptor, "rb", closefd=False) as pipe:
        length = pipe.read(_LENGTH)
        document = pipe.read(int.from_bytes(length, "big"))
    if len(length) + len(document) < len(packed(document)) or packed(document)[:_LENGTH] != length:
        raise CannotServe("The worker was started by nobody, or its parent is gone.")
    return document
