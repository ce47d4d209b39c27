"""Operational logs: JSON lines on stderr, past-tense events with fields. Not the audit.

Events carry codes, names and places in the code; never a request's or a provider's text.
"""

import contextlib
import logging
import sys
import traceback
from typing import TextIO, TypeAlias, cast

import structlog

Logger: TypeAlias = structlog.typing.FilteringBoundLogger


def configure_logs(level: int = logging.INFO) -> None:
    """Sends this process's logs from `level` up to stderr."""
    structlog.configure(
        processors=[
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


def place_of(error: BaseException) -> list[str]:
    """Where `error` was raised, innermost last: file, line and function, without any value."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
