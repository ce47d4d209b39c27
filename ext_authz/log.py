"""Operational logs: JSON lines on stderr, past-tense events with fields. Not the audit.

Events carry codes, names and places in the code; never a request's or a provider's text.
"""

import asyncio
import contextlib
import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO, TypeAlias, cast

import structlog
from structlog.typing import EventDict

Logger: TypeAlias = structlog.typing.FilteringBoundLogger


def configure_logs(level: int = logging.INFO, *, worker: int | None = None) -> None:
    """Sends this process's logs from `level` up to stderr; each line names the `worker`, if it is one."""
    structlog.configure(
        processors=[
            *([] if worker is None else [_Stamp(worker)]),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Stderr(sys.stderr))),
        cache_logger_on_first_use=False,
    )


def silence_libraries() -> None:
    """Leaves them their errors: they tell of providers' headers, and of tasks with their exceptions."""
    for name in ("aiocache", "asyncio", "httpcore2", "httpx2", "redis"):
        logging.getLogger(name).setLevel(logging.ERROR)


class _Stamp:
    """Not a context variable: the audit logs from a thread of its own."""

    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, _logger: object, _name: str, event: EventDict) -> EventDict:
        return {"worker": self._worker, **event}


class _Stderr:
    """What cannot be written is lost: a full disk must not take the verdict with it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()


def logger(room: str) -> Logger:
    """The logger of one room."""
    return cast("Logger", structlog.get_logger(room=room))


def log_uncaught(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """An exception that nobody awaits; asyncio would print its text, which may hold anything."""
    error = context.get("exception")
    at = place_of(error) if error is not None else []
    logger("server").error("uncaught", exception=type(error).__name__, at=at)


def place_of(error: BaseException) -> list[str]:
    """Where `error` was raised, innermost last: file, line and function, without any value."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
