"""One file that grows, read line by line, and only where a line is whole."""

import os
from pathlib import Path
from typing import Final

# In bytes: no record comes near, and memory must not hang on who else writes.
MAX_LINE: Final = 1024 * 1024
_BLOCK: Final = 256 * 1024
_LAST_BYTES: Final = 300
FileId = tuple[int, int]


class LineFile:
    """Gives each line once. The file stays readable after it was renamed or deleted."""

    def __init__(self, path: Path) -> None:
        """Opens it at its beginning; raises `OSError`."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self._descriptor)
        self.path = path
        self.id: FileId = (found.st_dev, found.st_ino)
        self._end = 0  # of what was read
        self._last = b""  # as much of its end as tells one record from another
        self._buffer = bytearray()
        self._searched = 0  # so many bytes of the buffer hold no newline
        self._is_overlong = False
        self._is_finished = False

    def line(self) -> bytes | None:
        """The next whole line, without its newline; None where none stands yet. Raises `OSError`."""
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                self._drop(end + 1)
                if not self._is_overlong:
                    return line
                self._is_overlong = False
            elif not self._fill():
                return self._rest()

    def finish(self) -> bool:
        """Nobody writes to the file any more: what stands behind the last newline is a line as well.

        Says whether that is news.
        """
        was_finished, self._is_finished = self._is_finished, True
        return not was_finished

    def has_grown(self) -> bool:
        """Whether there is more than what was read of it."""
        return os.fstat(self._descriptor).st_size > self._end

    def is_cut(self) -> bool:
        """Whether what was read last stands there no more: the file was cut, and may have grown since."""
        start = self._end - len(self._last)
        return os.pread(self._descriptor, len(self._last), start) != self._last

    def is_at(self, path: Path) -> bool:
        """Whether it is this file that stands at `path`."""
        try:
            found = path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.id

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _rest(self) -> bytes | None:
        if not self._is_finished or not self._buffer or self._is_overlong:
            return None
        rest, self._is_finished = bytes(self._buffer), False
        self._drop(len(rest))
        return rest

    def _fill(self) -> bool:
        """Reads on; says whether there was anything."""
        self._searched = len(self._buffer)
        if self._searched > MAX_LINE:
            self._is_overlong = True
            self._drop(self._searched)
        block = os.pread(self._descriptor, _BLOCK, self._end)
        self._end += len(block)
        self._last = (self._last + block)[-_LAST_BYTES:]
        self._buffer += block
        return bool(block)

    def _drop(self, length: int) -> None:
        del self._buffer[:length]
        self._searched = 0
