"""Rotation under load: by somebody else's rename or by the log's own limits, no record is lost."""

import asyncio
import contextlib
import os
import threading
import time as real_time
from pathlib import Path
from typing import IO

import pytest

from ext_authz.audit.chain_file import siblings
from ext_authz.audit.log import AuditLog
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.verify import verify
from ext_authz.settings.settings import Durability, Rotation
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.movable_time import MovableTime
from tests.unit.audit.chains import assert_one_chain, names_in, whole_lines
from tests.unit.audit.writing import SECONDS, Writing, writing

RENAMES = 100
FILES = 200
READ_ALONG = 20
LEVELS = list(Durability)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def assert_nothing_lost(files: list[Path], written: Writing) -> None:
    """Every sequence number is there, and every name once."""
    assert_one_chain([line for file in files for line in whole_lines(file)])
    assert sorted(names_in(*files)) == sorted(written.names)
    assert verify(find_sources([str(file) for file in files]), workers=1).breaks == ()


async def until_there_are(number: int, files: Path) -> None:
    async with asyncio.timeout(SECONDS):
        while len(siblings(files)) < number:  # noqa: ASYNC110 - a folder has no event to wait for
            await asyncio.sleep(0.001)


# ---- somebody else's rename


@pytest.mark.parametrize("durability", LEVELS)
async def test_renamed_a_hundred_times_under_load_it_loses_nothing(
    file: Path, durability: Durability
) -> None:
    log = AuditLog(quiet(file, durability=durability), MovableTime().clock)
    async with writing(log) as written:
        for number in range(RENAMES):
            await until_it_holds_a_record(file)
            put_aside(file, number)
    files = [*sorted(siblings(file)), file]

    assert len(files) == RENAMES + 1
    assert_nothing_lost(files, written)


async def until_it_holds_a_record(file: Path) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds_a_record(file):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)


def holds_a_record(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def put_aside(file: Path, number: int, *, is_made_anew: bool = False) -> None:
    file.rename(file.with_name(f"{file.name}.{number:03}"))
    if is_made_anew:
        file.touch()


async def test_renamed_and_made_anew_a_hundred_times_it_loses_nothing(file: Path) -> None:
    """As logrotate's `create` does it: the new file is there before the log knows."""
    log = AuditLog(quiet(file), MovableTime().clock)
    async with writing(log) as written:
        for number in range(RENAMES):
            await until_it_holds_a_record(file)
            put_aside(file, number, is_made_anew=True)
    assert_nothing_lost([*sorted(siblings(file)), file], written)


# ---- its own limits


@pytest.mark.parametrize("durability", LEVELS)
async def test_two_hundred_files_put_aside_by_size_lose_nothing(
    file: Path, durability: Durability
) -> None:
    rotation = Rotation(megabytes=0.002, seconds=NEVER)
    settings = quiet(file, durability=durability, rotation=rotation)
    log = AuditLog(settings, MovableTime().clock)
    async with writing(log) as written:
        await until_there_are(FILES, file)
    files = [*sorted(siblings(file)), file]

    assert len(files) > FILES
    assert_nothing_lost(files, written)


# ---- who reads along


class Tail(threading.Thread):
    """As `tail -F`: reads on in the file that it has, until another stands at its path."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.seen = b""
        self.files = 0
        self._path = path
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
                self.files += 1
                while self._is_at_path(file) and not self._is_over.is_set():
                    self.seen += file.read()
                    real_time.sleep(0.0005)
                self.seen += file.read()  # what came between the last look and the rename

    def end(self) -> bytes:
        """All that it saw; to be called when nothing is written any more."""
        self._is_over.set()
        self.join(SECONDS)
        assert not self.is_alive()
        return self.seen

    def _is_at_path(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return True  # renamed, and not yet made anew: more may come


async def test_who_reads_along_sees_every_record_in_its_order(file: Path) -> None:
    log = AuditLog(quiet(file), MovableTime().clock)
    tail = Tail(file)
    async with writing(log) as written:
        await until_it_holds_a_record(file)
        tail.start()
        for number in range(READ_ALONG):
            await asyncio.sleep(0.02)
            put_aside(file, number)
            await until_it_holds_a_record(file)
    files = [*sorted(siblings(file)), file]

    assert_nothing_lost(files, written)
    assert tail.end() == b"".join(each.read_bytes() for each in files)
    assert tail.files == READ_ALONG + 1
