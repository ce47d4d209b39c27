"""A copy of the log on standard output, for whoever collects that. Best effort: the file is the record.

Whole lines go out, in order, from a thread of their own. Where the reader is slower than the log, whole
groups of lines are dropped, counted and told of, and the log is never held up.
"""

import asyncio
import os
import select
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ext_authz.log import Logger, logger
from ext_authz.settings.settings import AuditSettings

MAX_BYTES: Final = 4 * 1024 * 1024
CLOSE_SECONDS: Final = 1.0
_STDOUT: Final = 1
_log: Final[Logger] = logger("audit")


@asynccontextmanager
async def copied_to_stdout(settings: AuditSettings) -> AsyncIterator[Sequence["StdoutSink"]]:
    """The sink on standard output while the block runs, if `settings` ask for one; else none.

    Leave it behind the log's end, which is copied as well.
    """
    if not settings.stdout:
        yield []
        return
    sink = StdoutSink(_STDOUT)
    try:
        yield [sink]
    finally:
        await asyncio.to_thread(sink.close)


class StdoutSink:
    """Takes lines and writes them to `descriptor`; at most `max_bytes` wait, save one group alone."""

    def __init__(self, descriptor: int, *, max_bytes: int = MAX_BYTES) -> None:
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0  # lines, since the reader last kept up
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="audit-stdout", daemon=True)
        self._thread.start()

    def offer(self, lines: bytes) -> None:
        """Queues whole `lines`, or drops them; neither blocks nor raises."""
        with self._changed:
            if self._is_closed or not lines:
                return
            if self._waiting and self._bytes + len(lines) > self._max_bytes:
                self._drop(lines)
                return
            self._waiting.append(lines)
            self._bytes += len(lines)
            self._changed.notify()

    def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Writes what waits, for so many seconds at most; what comes later is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _drop(self, lines: bytes) -> None:
        is_news = not self._dropped
        self._dropped += lines.count(b"\n")
        if is_news:  # from elsewhere: whoever reads neither stdout nor stderr must not stop the log
            threading.Thread(
                target=_log.warning, args=("audit_stdout_dropping",), daemon=True
            ).start()

    def _work(self) -> None:
        while (lines := self._take()) is not None:
            try:
                self._write(lines)
            except OSError as error:
                self._fail(lines, error)
            else:
                self._tell_recovered()

    def _take(self) -> bytes | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            return self._waiting[0] if self._waiting else None

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody else who has the pipe open made it so
                select.select([], [self._descriptor], [])
        self._forget(lines)

    def _forget(self, lines: bytes) -> None:
        with self._changed:
            self._waiting.popleft()
            self._bytes -= len(lines)

    def _fail(self, lines: bytes, error: OSError) -> None:
        self._forget(lines)
        with self._changed:
            is_news = not self._dropped
            self._dropped += lines.count(b"\n")
        if is_news:
            _log.warning("audit_stdout_dropping", fault=error.strerror)

    def _tell_recovered(self) -> None:
        with self._changed:
            if not self._dropped or self._waiting:
                return
            dropped, self._dropped = self._dropped, 0
        _log.warning("audit_stdout_recovered", dropped=dropped)
