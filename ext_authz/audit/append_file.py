"""One open file that only grows, and only by us: what stands at its path, and what became of it."""

import contextlib
import fcntl
import os
import stat
from enum import Enum
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE: Final = 0o640


class State(Enum):
    """What somebody else did to the file since our last look."""

    OURS = "ours"
    MOVED = "moved"  # another file, or none, stands at the path
    CUT = "cut"  # shorter than we left it
    GROWN = "grown"  # longer than we left it


class AppendFile:
    """The file at `path`, locked against a second writer; `size` is what we know to stand in it."""

    def __init__(self, path: Path) -> None:
        """Opens or makes it; raises `OSError`."""
        self._path = path
        is_new = not path.exists()
        self.descriptor = os.open(path, _FLAGS, _MODE)
        found = os.fstat(self.descriptor)
        self.is_regular = stat.S_ISREG(found.st_mode)
        self.size = found.st_size if self.is_regular else 0
        try:
            self._lock()
            if is_new:
                sync_folder(path.parent)
        except OSError:
            self.close()
            raise

    def append(self, data: bytes) -> OSError | None:
        """Writes `data` behind `size`, which grows by what was written; gives the fault, if any."""
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self.descriptor, rest)
                self.size += written
                rest = rest[written:]
        except OSError as error:
            return error
        return None

    def sync(self) -> None:
        """Returns once everything is on the disk; raises `OSError`."""
        if self.is_regular:
            os.fdatasync(self.descriptor)

    def state(self) -> State:
        """What stands there now, as against what we left."""
        if not self.is_regular:
            return State.OURS
        ours = os.fstat(self.descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return State.MOVED
        if (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev):
            return State.MOVED
        if ours.st_size == self.size:
            return State.OURS
        return State.CUT if ours.st_size < self.size else State.GROWN

    def is_deleted(self) -> bool:
        """Whether no name leads to the file any more: what is written to it is lost."""
        return self.is_regular and os.fstat(self.descriptor).st_nlink == 0

    def measure(self) -> None:
        """Takes the file's size as it is."""
        self.size = os.fstat(self.descriptor).st_size

    def ends_a_line(self) -> bool:
        """Whether what is appended next begins a line of its own."""
        return self.size == 0 or os.pread(self.descriptor, 1, self.size - 1) == b"\n"

    def close(self) -> None:
        """Closes the file; what comes later is refused, and not written to whatever opens next."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _lock(self) -> None:
        if self.is_regular:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(error.errno, "another process writes to it") from None


def sync_folder(folder: Path) -> None:
    """Has the names in `folder` survive a loss of power; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_once(path: Path, data: bytes) -> None:
    """Appends `data` to the file at `path`, and has it on the disk; raises `OSError`."""
    file = AppendFile(path)
    try:
        fault = file.append(data)
        if fault is not None:
            raise fault
        file.sync()
    finally:
        file.close()
