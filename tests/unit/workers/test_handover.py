"""The settings on their way to a worker."""

import os
import threading
from collections.abc import Iterator

import pytest

from ext_authz.cannot_serve import CannotServe
from ext_authz.workers.handover import packed, received

DOCUMENTS = [b"listen: x\n", b"", "workers: 2".encode("utf-16"), b"x" * 1_000_000]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def written(descriptor: int, data: bytes) -> threading.Thread:
    """Writes `data`, as much at a time as the pipe takes, and closes the pipe."""

    def write() -> None:
        with open(descriptor, "wb") as pipe:
            pipe.write(data)

    writing = threading.Thread(target=write)
    writing.start()
    return writing


@pytest.mark.parametrize("document", DOCUMENTS, ids=len)
def test_a_document_arrives_to_the_letter(pipe: tuple[int, int], document: bytes) -> None:
    writing = written(pipe[1], packed(document))

    assert received(pipe[0]) == document
    writing.join()


def test_a_document_is_there_before_the_pipe_ends(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], packed(b"listen: x\n"))

    assert received(pipe[0]) == b"listen: x\n"
    os.close(pipe[1])


@pytest.mark.parametrize("end", [0, 3, 8, 12])
def test_a_document_that_breaks_off_is_none(pipe: tuple[int, int], end: int) -> None:
    writing = written(pipe[1], packed(b"listen: x\n")[:end])

    with pytest.raises(CannotServe, match="parent is gone"):
        received(pipe[0])
    writing.join()
