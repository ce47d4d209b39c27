"""Every `await` in the code, and those that an execution stands in at this moment."""

import ast
import asyncio
import sys
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple

PACKAGE: Final = Path(__file__).parents[2] / "ext_authz"


class AwaitPoint(NamedTuple):
    """One `await` or `async for`: its file, and where in it from line and column to line and column."""

    file: Path
    line: int
    end_line: int
    column: int
    end_column: int

    def __str__(self) -> str:
        (node,) = [node for node in _awaits(self.file) if _point(self.file, node) == self]
        return f"{self.file.relative_to(PACKAGE)}:{self.line}: {ast.unparse(node).splitlines()[0]}"


def await_points(*names: str, except_in: frozenset[str]) -> set[AwaitPoint]:
    """All of those in the modules and folders named, except in functions of these names."""
    files = [file for name in names for file in _files(PACKAGE / name)]
    return {
        _point(file, node)
        for file in files
        for node in _awaits(file)
        if _function_around(file, node) not in except_in
    }


def standing_in() -> set[AwaitPoint]:
    """Where whoever calls this is awaited, all the way up, and where every other task waits."""
    frames = [*_callers(sys._getframe(1)), *_waiting()]
    return {point for frame in frames if (point := _position(frame)) is not None}


def _files(path: Path) -> Iterable[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def _awaits(file: Path) -> Iterator[ast.Await | ast.AsyncFor]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Await | ast.AsyncFor):
            yield node


def _function_around(file: Path, awaiting: ast.Await | ast.AsyncFor) -> str:
    """The innermost function that `awaiting` stands in."""
    around = [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.AsyncFunctionDef)
        and node.lineno <= awaiting.lineno <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno).name


def _point(file: Path, node: ast.Await | ast.AsyncFor) -> AwaitPoint:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return AwaitPoint(file, node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _waiting() -> Iterator[FrameType]:
    for task in asyncio.all_tasks():
        awaited: object = task.get_coro()
        while isinstance(awaited, Coroutine):
            frame = getattr(awaited, "cr_frame", None)
            if frame is not None:
                yield frame
            awaited = getattr(awaited, "cr_await", None)


def _position(frame: FrameType) -> AwaitPoint | None:
    """What `frame` is at; of no interest outside the package."""
    code: CodeType = frame.f_code
    if not code.co_filename.startswith(f"{PACKAGE}/"):
        return None
    position = list(code.co_positions())[frame.f_lasti // 2]
    if None in position:
        return None
    return AwaitPoint(Path(code.co_filename), *position)  # type: ignore[arg-type]
