"""Files of records as bytes that can be searched: mapped, and unpacked first where gzip packed them."""

import contextlib
import gzip
import mmap
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

Data = bytes | mmap.mmap

_GZIP_MAGIC: Final = b"\x1f\x8b"


class BadInput(Exception):
    """A file or an argument cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that exists and can be read. `inode` tells it from another that takes its name."""

    path: Path
    size: int
    inode: int
    is_gzip: bool

    @property
    def name(self) -> str:
        return str(self.path)


def find_sources(paths: list[str]) -> list[Source]:
    """Each file once, in the order given; raises `BadInput`."""
    found: dict[int, Source] = {}
    for path in paths:
        source = find_source(path)
        found.setdefault(source.inode, source)
    return list(found.values())


def find_source(path: str) -> Source:
    """Raises `BadInput`."""
    with _readable(path) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path}: is no regular file. Name the audit file, or a rotated one.")
        is_gzip = file.read(2) == _GZIP_MAGIC
    return Source(path=Path(path), size=status.st_size, inode=status.st_ino, is_gzip=is_gzip)


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Data]:
    """The file's bytes, for as long as the context lasts; raises `BadInput`."""
    with _readable(source.name) as file:
        if os.fstat(file.fileno()).st_ino != source.inode:
            raise BadInput(f"{source.path}: was rotated while it was read. Run the command again.")
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(_unpacked(file, source)) if source.is_gzip else file
            size = os.fstat(plain.fileno()).st_size
            if not size:  # an empty file cannot be mapped
                yield b""
                return
            with mmap.mmap(plain.fileno(), size, access=mmap.ACCESS_READ) as data:
                yield data


def one_of(path: str) -> bytes:
    """The whole of a small file, such as a key; raises `BadInput`."""
    with _readable(path) as file:
        return file.read()


@contextlib.contextmanager
def _readable(path: str) -> Iterator[IO[bytes]]:
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except IsADirectoryError:
        raise BadInput(f"{path}: is a directory. Name the files in it.") from None
    except FileNotFoundError:
        raise BadInput(f"{path}: does not exist. See `audit.file` in the settings.") from None
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else "no usable name"
        raise BadInput(f"{path}: cannot be read: {fault}.") from None
    with file:
        yield file


@contextlib.contextmanager
def _unpacked(file: IO[bytes], source: Source) -> Iterator[IO[bytes]]:
    """A temporary file without a name, readable to nobody else."""
    with tempfile.TemporaryFile() as plain:
        try:
            with gzip.open(file) as packed:
                shutil.copyfileobj(packed, plain, 1024 * 1024)
        except (EOFError, OSError, zlib.error) as error:
            raise BadInput(f"{source.path}: is no whole gzip file ({error}).") from None
        plain.flush()
        yield plain
