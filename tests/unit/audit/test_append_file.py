"""Lines that are appended in one go, to a file or to what stands in the place of one."""

import errno
from pathlib import Path

import pytest

from ext_authz.audit.append_file import append_once


def test_what_is_appended_stands_behind_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints.jsonl"
    for line in (b"one\n", b"two\n"):
        append_once(file, line)

    assert file.read_bytes() == b"one\ntwo\n"


def test_a_device_that_is_full_says_so() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        append_once(Path("/dev/full"), b"line\n")

    assert caught.value.errno == errno.ENOSPC


def test_a_device_has_nothing_to_sync() -> None:
    append_once(Path("/dev/null"), b"line\n")
