"""The chain's file: whatever happens to the process, the disk or the name, no record is lost unseen."""

import hashlib
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ext_authz.audit.append_file import AppendFile
from ext_authz.audit.chain import Head
from ext_authz.audit.chain_file import CannotWrite, ChainFile, _begun, siblings
from ext_authz.audit.checkpoint import Signer, Statement, is_signed
from ext_authz.settings.settings import Checkpoints, Durability, Rotation
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.movable_time import MovableTime
from tests.unit.audit.chains import (
    assert_one_chain,
    data_of,
    event,
    events_in,
    kinds_in,
    names_in,
    whole_lines,
)

Open = Callable[..., ChainFile]
A, B, C = event("a"), event("b"), event("c")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def time() -> MovableTime:
    return MovableTime()


@pytest.fixture
def opened(file: Path, time: MovableTime) -> Iterator[Open]:
    """Opens the file as a process does that starts; a test that kills it closes the descriptor."""
    chains: list[ChainFile] = []

    def open_it(signer: Signer | None = None, **changes: Any) -> ChainFile:
        chains.append(ChainFile(quiet(changes.pop("file", file), **changes), signer, time.clock))
        return chains[-1]

    yield open_it
    for chain in chains:
        kill(chain)


def kill(chain: ChainFile) -> None:
    """As SIGKILL does: nothing is written any more."""
    if chain._file is not None:
        chain._file.close()


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """A limit at which the kernel cuts a write short, and refuses the next."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def signer() -> Signer:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Signer(pem.decode())


# ---- writing


def test_what_is_written_is_a_chain_behind_an_opening(file: Path, opened: Open) -> None:
    chain = opened()
    lines = chain.write([A, B])

    assert lines == file.read_bytes()
    assert names_in(file) == ["a", "b"]
    assert kinds_in(file) == ["opened", "decision", "decision"]
    assert data_of("opened", file) == {"cause": "started", "durability": "written"}
    assert_one_chain(whole_lines(file))


def test_a_record_is_in_the_file_once_write_returns(file: Path, opened: Open) -> None:
    chain = opened()
    for name in ("a", "b", "c"):
        chain.write([event(name)])

        assert names_in(file)[-1] == name


def test_a_new_file_is_for_its_owner_and_group(file: Path, opened: Open) -> None:
    before = os.umask(0o022)
    try:
        opened()
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_the_mode_of_an_old_file_stays(file: Path, opened: Open) -> None:
    file.touch()
    file.chmod(0o600)
    opened()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_process_is_turned_away(file: Path, opened: Open) -> None:
    opened()

    with pytest.raises(CannotWrite, match="another process writes to it"):
        opened()


def test_no_child_process_inherits_the_file(opened: Open) -> None:
    chain = opened()

    assert chain._file is not None
    assert not os.get_inheritable(chain._file.descriptor)


@pytest.mark.parametrize("path", ["", "missing/audit.jsonl", "file/audit.jsonl"])
def test_a_file_that_cannot_be_opened_is_a_fault_at_the_start(
    tmp_path: Path, opened: Open, path: str
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CannotWrite, match=rf"^cannot open {tmp_path / path}: "):
        opened(file=tmp_path / path)


def test_a_full_disk_is_a_fault(opened: Open) -> None:
    with pytest.raises(CannotWrite, match=r"^/dev/full: No space left on device$") as fault:
        opened(file="/dev/full").write([A])

    assert fault.value.written == 0


# ---- restarts and torn tails


def test_a_restart_goes_on_with_the_chain(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    chain.close()
    opened().write([B])

    assert names_in(file) == ["a", "b"]
    assert kinds_in(file).count("opened") == 2
    assert_one_chain(whole_lines(file))


@pytest.mark.parametrize("torn", [b"{", b'{"name":"x"}', b"\xff\x00", b"a\nb\n\nc", b"{}\n"])
def test_what_a_dying_process_left_torn_is_closed_and_named(
    file: Path, opened: Open, torn: bytes
) -> None:
    chain = opened()
    chain.write([A])
    kill(chain)
    before = file.read_bytes()
    file.write_bytes(before + torn)
    opened().write([B])

    after = file.read_bytes()
    assert after.startswith(before + torn + b"\n{")
    rest = after[len(before + torn) + 1 :].splitlines()
    (tmp := file.with_name("rest")).write_bytes(b"\n".join(rest) + b"\n")
    assert data_of("torn", tmp) == {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
    assert_one_chain([*before.splitlines(), *rest])


def test_a_record_that_lacks_only_its_newline_is_whole(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    kill(chain)
    file.write_bytes(file.read_bytes()[:-1])
    opened().write([B])

    assert "torn" not in kinds_in(file)
    assert_one_chain(whole_lines(file))


def test_a_record_longer_than_a_block_is_found_again(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([event("x" * 300_000), event("y" * 65_536)])
    kill(chain)
    file.write_bytes(file.read_bytes() + b"z" * 200_000)
    opened().write([B])

    rest = file.read_bytes().split(b"\n")
    del rest[3], rest[-1]
    assert_one_chain(rest)


def test_opening_writes_nothing(file: Path, opened: Open) -> None:
    file.write_bytes(b"{")
    opened()

    assert file.read_bytes() == b"{"


@pytest.mark.parametrize("cut", [0, 1, 5, 100, 300])
def test_a_write_that_is_cut_short_tells_how_many_records_stand(
    file: Path, opened: Open, cut: int
) -> None:
    chain = opened()
    chain.write([A])
    size = file.stat().st_size
    with room_for(size + cut), pytest.raises(CannotWrite, match=r"File too large$") as fault:
        chain.write([B, C])
    torn = file.read_bytes()[size:]
    chain.write([event("d")])

    whole = torn.count(b"\n")
    assert fault.value.written == whole
    assert len(torn) == cut
    lines = file.read_bytes().split(b"\n")[:-1]
    rest = [line for line in lines if not line or line != torn.split(b"\n")[-1]]
    assert_one_chain(rest)
    assert (b'"torn"' in file.read_bytes()) == bool(torn.split(b"\n")[-1])


def test_a_disk_that_stays_full_for_a_while_leaves_one_chain(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    for extra in (3, 4, 4, 9):
        with room_for(file.stat().st_size + extra), pytest.raises(CannotWrite):
            chain.write([B])
    chain.write([C])

    good = [line for line in file.read_bytes().split(b"\n") if line.endswith(b"}}}")]
    assert_one_chain(good)
    torn = log_data(good, "torn")
    start = file.read_bytes().index(b"\n", len(good[0]) + 1) + 1
    region = file.read_bytes()[start : start + torn["bytes"]]
    assert hashlib.sha256(region).hexdigest() == torn["sha256"]
    assert file.read_bytes()[start + torn["bytes"] :].startswith(b"\n{")


def log_data(lines: list[bytes], kind: str) -> dict[str, Any]:
    found = [orjson.loads(line)["unmapped"].get("log", {}).get(kind) for line in lines]
    data: dict[str, Any]
    (data,) = [item for item in found if item]
    return data


# ---- others at the file


def test_a_renamed_file_keeps_its_records_and_the_chain_goes_on(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    aside = file.rename(file.with_suffix(".jsonl.1"))
    chain.write([B])

    assert (names_in(aside), names_in(file)) == (["a"], ["b"])
    assert events_in(file)[0]["unmapped"]["log"]["opened"]["cause"] == "renamed"
    assert_one_chain([*whole_lines(aside), *whole_lines(file)])


def test_a_renamed_file_with_a_new_one_in_its_place(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    aside = file.rename(file.with_suffix(".jsonl.1"))
    file.touch()
    chain.write([B])

    assert_one_chain([*whole_lines(aside), *whole_lines(file)])


def test_a_file_that_was_renamed_while_nobody_ran(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    chain.close()
    aside = file.rename(file.with_suffix(".jsonl.1"))
    opened().write([B])

    assert events_in(file)[0]["unmapped"]["log"]["opened"]["previous"] == aside.name
    assert_one_chain([*whole_lines(aside), *whole_lines(file)])


def test_a_file_that_is_cut_is_named_and_the_chain_goes_on(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    copied = file.read_bytes()
    os.truncate(file, 0)
    chain.write([B])

    assert data_of("truncated", file) == {"bytes": len(copied)}
    assert_one_chain([*copied.splitlines(), *whole_lines(file)])


def test_a_file_that_is_deleted_while_it_is_written_is_written_anew(
    file: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened()
    chain.write([A])
    append = AppendFile.append

    def delete_then_append(self: AppendFile, data: bytes) -> OSError | None:
        monkeypatch.undo()
        file.unlink()
        return append(self, data)

    monkeypatch.setattr(AppendFile, "append", delete_then_append)
    chain.write([B])

    assert names_in(file) == ["b"]


def test_a_foreign_line_is_not_excused(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    with file.open("ab") as other:
        other.write(b'{"not":"ours"}\n')
    chain.write([B])

    assert b'"torn"' not in file.read_bytes()
    assert_one_chain([line for line in whole_lines(file) if b"not" not in line])


def test_a_folder_that_vanishes_is_a_fault_and_it_recovers(tmp_path: Path, opened: Open) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    chain = opened(file=folder / "audit.jsonl")
    chain.write([A])
    moved = folder.rename(tmp_path / "moved")
    for _ in range(2):
        with pytest.raises(CannotWrite, match="No such file"):
            chain.write([B])
    folder.mkdir()
    chain.write([C])

    files = (moved / "audit.jsonl", folder / "audit.jsonl")
    assert names_in(*files) == ["a", "c"]
    assert_one_chain([line for found in files for line in whole_lines(found)])


# ---- rotation


def test_a_large_file_is_put_aside_and_the_chain_goes_on(file: Path, opened: Open) -> None:
    chain = opened(rotation=Rotation(megabytes=0.001, seconds=NEVER))
    for number in range(12):
        chain.write([event(f"{number:02d}")])
    files = [*sorted(siblings(file)), file]

    assert len(files) > 2
    assert names_in(*files) == [f"{number:02d}" for number in range(12)]
    assert_one_chain([line for found in files for line in whole_lines(found)])
    for aside, following in pairwise(files):
        assert kinds_in(aside)[-1] == "checkpoint"
        opening = events_in(following)[0]["unmapped"]["log"]["opened"]
        assert (opening["cause"], opening["previous"]) == ("rotated", aside.name)


def test_an_old_file_is_put_aside_though_the_process_is_young(
    file: Path, opened: Open, time: MovableTime
) -> None:
    rotation = Rotation(megabytes=NEVER, seconds=3600)
    first = opened(rotation=rotation)
    first.write([A])
    kill(first)
    time.passes(3599)
    second = opened(rotation=rotation)
    second.write([B])
    assert siblings(file) == []
    time.passes(2)
    second.write([C])

    assert [names_in(found) for found in (*siblings(file), file)] == [["a", "b"], ["c"]]


def test_where_it_cannot_be_put_aside_it_is_written_on(
    file: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened(rotation=Rotation(megabytes=0.0001, seconds=NEVER))
    chain.write([A])

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    chain.write([B])
    chain.write([C])

    assert names_in(file) == ["a", "b", "c"]
    assert_one_chain(whole_lines(file))


def test_a_restart_after_a_rotation_goes_on_with_the_chain(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    kill(chain)
    file.rename(file.with_name("audit-20260101T000000Z-000000000001.jsonl"))
    opened().write([B])

    (aside,) = siblings(file)
    assert_one_chain([*whole_lines(aside), *whole_lines(file)])


@pytest.mark.parametrize(
    ("name", "is_sibling"),
    [
        ("audit-1-20260101T000000Z-000000000001.jsonl", True),
        ("audit-1.jsonl.1", True),
        ("audit-1-20260101.jsonl", True),
        ("audit-10.jsonl", False),
        ("audit-12-20260101T000000Z-000000000001.jsonl", False),
        ("audit-2.jsonl", False),
        ("audit-1b.jsonl", False),
    ],
)
def test_the_files_of_another_worker_were_not_put_aside_from_ours(
    tmp_path: Path, name: str, *, is_sibling: bool
) -> None:
    (tmp_path / name).touch()

    assert [found.name for found in siblings(tmp_path / "audit-1.jsonl")] == [name] * is_sibling


def test_a_chain_is_not_resumed_from_that_of_another_worker(
    opened: Open, file: Path, tmp_path: Path
) -> None:
    opened().write([A])
    file.rename(tmp_path / "audit0.jsonl")
    opened().write([B])

    (first,), (second,) = (
        {each["unmapped"]["record_integrity"]["chain_uid"] for each in events_in(chain)}
        for chain in (tmp_path / "audit0.jsonl", file)
    )
    assert first != second


# ---- checkpoints


def test_a_checkpoint_signs_the_record_before_it(
    file: Path, opened: Open, signer: Signer, time: MovableTime
) -> None:
    chain = opened(signer, checkpoints=Checkpoints(records=3, seconds=NEVER, file=None))
    chain.write([A])
    chain.write([B])

    assert kinds_in(file) == ["opened", "decision", "decision", "checkpoint"]
    said, before = data_of("checkpoint", file), events_in(file)[2]["unmapped"]["record_integrity"]
    assert (said["head"], said["sequence"]) == (before["fingerprint"], 2)
    assert said["key_id"] == signer.key_id
    head = Head(before["chain_uid"], 2, before["fingerprint"])
    statement = Statement(head, int(time.clock.wall() * 1000))
    assert said["time"] == statement.time
    assert is_signed(statement, said["signature"], signer.public_key)
    other = Statement(Head(before["chain_uid"], 1, before["fingerprint"]), statement.time)
    assert not is_signed(other, said["signature"], signer.public_key)


def test_there_is_one_every_so_many_records(file: Path, opened: Open) -> None:
    chain = opened(checkpoints=Checkpoints(records=5, seconds=NEVER, file=None))
    for _ in range(20):
        chain.write([A])

    sequences = [number for number, kind in enumerate(kinds_in(file)) if kind == "checkpoint"]
    assert sequences == [5, 11, 17, 23]


def test_one_that_is_asked_for_comes_only_when_the_chain_moved(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    chain.checkpoint()
    chain.checkpoint()

    assert kinds_in(file) == ["opened", "decision", "checkpoint"]


def test_closing_leaves_one(file: Path, opened: Open) -> None:
    chain = opened()
    chain.write([A])
    chain.close()

    assert kinds_in(file)[-1] == "checkpoint"


def test_the_second_file_gets_a_copy(file: Path, tmp_path: Path, opened: Open) -> None:
    second = tmp_path / "other-disk" / "checkpoints.jsonl"
    second.parent.mkdir()
    checkpoints = Checkpoints(records=2, seconds=NEVER, file=str(second))
    chain = opened(checkpoints=checkpoints)
    chain.write([A])
    chain.write([B, C])

    copies = [line for line in whole_lines(file) if b'"event":"checkpoint"' in line]
    assert whole_lines(second) == copies
    assert len(copies) == 2


def test_a_second_file_that_fails_stops_nothing(file: Path, tmp_path: Path, opened: Open) -> None:
    checkpoints = Checkpoints(records=2, seconds=NEVER, file=str(tmp_path / "none" / "file"))
    chain = opened(checkpoints=checkpoints)
    chain.write([A, B, C])

    assert names_in(file) == ["a", "b", "c"]


# ---- the disk


@pytest.mark.parametrize(("durability", "syncs"), [("written", 0), ("synced", 3)])
def test_synced_waits_for_the_disk_at_every_write(
    opened: Open, monkeypatch: pytest.MonkeyPatch, durability: str, syncs: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    chain = opened(durability=Durability(durability))
    for _ in range(3):
        chain.write([A, B])

    assert len(calls) == syncs


def test_what_could_not_be_synced_is_no_record(
    file: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened(durability=Durability.SYNCED)
    chain.write([A])

    def fail(_descriptor: int) -> None:
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(CannotWrite, match=r"Input/output error$") as fault:
        chain.write([B, C])
    assert fault.value.written == 0
    chain.write([event("d")])

    assert data_of("unsynced", file) == {"first": 2, "last": 3}
    assert_one_chain(whole_lines(file))


def test_a_folder_that_is_not_there_holds_no_siblings(tmp_path: Path) -> None:
    assert siblings(tmp_path / "nowhere" / "audit.jsonl") == []


@pytest.mark.parametrize("first", ["torn", "[]", '{"time": "soon"}', "{}"])
def test_a_file_whose_first_line_is_no_record_begins_anew(tmp_path: Path, first: str) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text(f"{first}\n")

    assert _begun(file) is None
    assert _begun(tmp_path / "nowhere.jsonl") is None
