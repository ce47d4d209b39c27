"""Walks whole files, in parts, on all cores."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Final

from ext_authz.auditor.files import BadInput, Data, Source, opened
from ext_authz.auditor.walk import Walked, joined, walk

_PART: Final = 4 * 1024 * 1024  # bytes: lines that are cut from it stay in the processor's cache
_WORTH_A_POOL: Final = 16 * 1024 * 1024  # bytes: below, starting processes takes longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Parts of a file that one process walks in turn."""

    source: Source
    start: int
    end: int | None  # None: to the end; of a packed file the length is not known beforehand


def walk_files(sources: Sequence[Source], *, workers: int | None = None) -> list[Walked]:
    """What each file holds. `workers` processes; by default one for each core, if it is worth it."""
    if workers is None:
        is_worth_it = sum(source.size for source in sources) >= _WORTH_A_POOL
        workers = (os.cpu_count() or 1) if is_worth_it else 1
    tasks = [list(_tasks(source)) for source in sources]
    if workers == 1:
        return [joined([part for task in each for part in _work(task)]) for each in tasks]
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return _walk_in(pool, tasks)


def _walk_in(pool: Executor, tasks: list[list[Task]]) -> list[Walked]:
    begun = [[pool.submit(_work, task) for task in each] for each in tasks]
    try:
        return [joined([part for one in each for part in one.result()]) for each in begun]
    except BrokenProcessPool:
        raise BadInput("a process that read the files was killed. Give it more memory.") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _tasks(source: Source) -> Iterator[Task]:
    if source.is_gzip:
        yield Task(source=source, start=0, end=None)
        return
    with opened(source) as data:
        for start, end in parts(data, 0, len(data), size=4 * _PART):
            yield Task(source=source, start=start, end=end)


def _work(task: Task) -> list[Walked]:
    with opened(task.source) as data:
        end = len(data) if task.end is None else task.end
        return [walk(data, *part) for part in parts(data, task.start, end)]


def parts(data: Data, start: int, end: int, *, size: int = _PART) -> Iterator[tuple[int, int]]:
    """Spans of about `size` bytes from `start` to `end`, each of whole lines."""
    while start < end:
        newline = data.find(b"\n", start + size, end) if start + size < end else -1
        stop = newline + 1 or end
        yield start, stop
        start = stop
