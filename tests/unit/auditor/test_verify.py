"""Every kind of tampering with a long chain is found, and its place is named."""

import gzip
import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_authz.audit.canonical import Event
from ext_authz.audit.chain import Head, unlink
from ext_authz.audit.checkpoint import Signer, read_public_key
from ext_authz.auditor.files import BadInput, find_sources
from ext_authz.auditor.findings import Break, Kind, Report
from ext_authz.auditor.verify import verify
from tests.unit.auditor.chains import (
    PUBLIC_PEM,
    Chain,
    chain_of,
    decision,
    log_event,
    private_pem,
    write,
)

RECORDS: Final = 100_000
PLACES: Final = (1, 1000, RECORDS - 2)
KEY: Final = read_public_key(PUBLIC_PEM.encode())


def brief(number: int) -> Event:
    """A record that is short, so that a long chain is made quickly."""
    return {"class_uid": 6003, "time": number, "unmapped": {"event": "decision"}}


@pytest.fixture(scope="module")
def long() -> Sequence[bytes]:
    """A hundred thousand lines."""
    return tuple(chain_of(RECORDS, event=brief).lines)


@pytest.fixture(scope="module")
def short() -> Chain:
    return chain_of(200, every=50)


def verified(
    folder: Path, *files: Sequence[bytes], copies: Sequence[bytes] = (), key: bool = True
) -> Report:
    paths = [write(folder / f"{index}.jsonl", lines) for index, lines in enumerate(files)]
    copied = [write(folder / "copies", copies)] if copies else []
    return verify(
        find_sources(paths),
        keys=[KEY] if key else [],
        copies=find_sources(copied),
        workers=1,
    )


def only(report: Report) -> Break:
    (found,) = report.breaks
    return found


def flipped(line: bytes, at: int) -> bytes:
    return line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]


def test_what_nobody_touched_is_intact(tmp_path: Path, long: Sequence[bytes]) -> None:
    report = verified(tmp_path, long)

    assert report.is_intact
    assert report.records == RECORDS
    (chain,) = report.chains
    assert (chain.first, chain.last, chain.signed_to) == (0, RECORDS - 1, RECORDS - 1)


@pytest.mark.parametrize("at", PLACES)
def test_a_flipped_byte_is_found(tmp_path: Path, long: Sequence[bytes], at: int) -> None:
    found = only(verified(tmp_path, [*long[:at], flipped(long[at], 20), *long[at + 1 :]]))

    assert (found.kind, found.line, found.sequence) == (Kind.FLIPPED, at + 1, at)


@pytest.mark.parametrize("at", PLACES)
def test_a_dropped_record_is_found(tmp_path: Path, long: Sequence[bytes], at: int) -> None:
    found = only(verified(tmp_path, [*long[:at], *long[at + 1 :]]))

    assert (found.kind, found.line, found.sequence) == (Kind.DROPPED, at + 1, at)
    assert f"record {at} is missing" in found.sentence


def test_many_dropped_records_are_one_break(tmp_path: Path, long: Sequence[bytes]) -> None:
    found = only(verified(tmp_path, [*long[:700], *long[900:]]))

    assert (found.kind, found.line, found.sequence) == (Kind.DROPPED, 701, 700)
    assert "records 700 to 899 are missing" in found.sentence


@pytest.mark.parametrize("at", PLACES)
def test_two_records_in_each_others_place_are_found(
    tmp_path: Path, long: Sequence[bytes], at: int
) -> None:
    swapped = [*long[:at], long[at + 1], long[at], *long[at + 2 :]]

    found = only(verified(tmp_path, swapped))

    assert (found.kind, found.line, found.sequence) == (Kind.REORDERED, at + 1, at + 1)
    assert f"before record {at}" in found.sentence


@pytest.mark.parametrize(("begin", "to"), [(10, 90_000), (90_000, 10), (0, 5)])
def test_a_record_that_was_moved_far_is_found(
    tmp_path: Path, long: Sequence[bytes], begin: int, to: int
) -> None:
    moved = list(long)
    moved.insert(to, moved.pop(begin))

    found = only(verified(tmp_path, moved))

    assert found.kind is Kind.REORDERED
    assert found.line == min(begin, to) + 1


@pytest.mark.parametrize("at", PLACES)
def test_a_record_that_is_there_twice_is_found(
    tmp_path: Path, long: Sequence[bytes], at: int
) -> None:
    found = only(verified(tmp_path, [*long[: at + 1], long[at], *long[at + 1 :]]))

    assert (found.kind, found.line, found.sequence) == (Kind.DUPLICATED, at + 2, at)


def test_a_block_that_is_repeated_far_behind_is_found(
    tmp_path: Path, long: Sequence[bytes]
) -> None:
    found = only(verified(tmp_path, [*long[:60_000], *long[100:200], *long[60_000:]]))

    assert (found.kind, found.line, found.sequence) == (Kind.DUPLICATED, 60_001, 100)
    assert "records 100 to 199" in found.sentence


@pytest.mark.parametrize(
    ("at", "foreign"),
    [(0, b"\n"), (1, b"anything\n"), (54_321, b'{"unmapped":{}}\n')],
)
def test_a_line_that_is_no_record_is_found(
    tmp_path: Path, long: Sequence[bytes], at: int, foreign: bytes
) -> None:
    found = only(verified(tmp_path, [*long[:at], foreign, *long[at:]]))

    assert (found.kind, found.line) == (Kind.INSERTED, at + 1)


def test_records_of_another_chain_are_found(tmp_path: Path, long: Sequence[bytes]) -> None:
    other = chain_of(20).lines

    found = only(verified(tmp_path, [*long[:500], *other[3:9], *long[500:]]))

    assert (found.kind, found.line) == (Kind.INSERTED, 501)


@pytest.mark.parametrize("keep", [1, RECORDS - 1])
def test_a_chain_without_its_end_is_found_by_what_was_kept_elsewhere(
    tmp_path: Path, long: Sequence[bytes], keep: int
) -> None:
    found = only(verified(tmp_path, long[:keep], copies=[long[-1]]))

    assert (found.kind, found.sequence) == (Kind.TRUNCATED, RECORDS - 1)
    assert f"records {keep} to" in found.sentence


def test_a_chain_that_was_written_anew_is_found_by_what_was_kept_elsewhere(tmp_path: Path) -> None:
    uid = "ab" * 16
    true, false = Chain(uid=uid), Chain(uid=uid)
    for chain, user in ((true, "alice"), (false, "bob")):
        chain.append(decision(0, subject=user))
        chain.checkpoint()

    found = only(verified(tmp_path, false.lines, copies=true.checkpoints))

    assert (found.kind, found.sequence) == (Kind.REWRITTEN, 1)


def test_a_record_with_a_new_fingerprint_is_found(tmp_path: Path) -> None:
    """Whoever rewrites one record has to rewrite all that follow."""
    uid = "ab" * 16
    true, false = Chain(uid=uid), Chain(uid=uid)
    true.extend(decision(number) for number in range(9))
    false.extend(decision(number) for number in range(4))
    false.append(decision(4, subject="mallory"))

    found = only(verified(tmp_path, [*true.lines[:4], false.lines[4], *true.lines[5:]]))

    assert (found.kind, found.line, found.sequence) == (Kind.REWRITTEN, 6, 5)


def test_a_chain_that_was_forged_from_a_record_on_lacks_signatures(
    tmp_path: Path, short: Chain
) -> None:
    forged = Chain(pem=None)
    forged.lines, forged.head = short.lines[:60], _head_after(short.lines[59])
    forged.append(decision(60, subject="mallory"))
    forged.checkpoint()

    found = only(verified(tmp_path, forged.lines))

    assert (found.kind, found.sequence) == (Kind.UNSIGNED, 61)


def test_a_signature_of_another_key_is_found(tmp_path: Path) -> None:
    chain = chain_of(10, pem=_other_pem())

    found = only(verified(tmp_path, chain.lines))

    assert found.kind is Kind.UNSIGNED
    assert Signer(_other_pem()).key_id in found.sentence


def test_a_checkpoint_that_states_something_else_is_found(tmp_path: Path) -> None:
    chain = Chain()
    chain.append(decision(0))
    chain.append(log_event("checkpoint", 1, head="0" * 64, sequence=0, time=1))

    assert only(verified(tmp_path, chain.lines, key=False)).kind is Kind.REWRITTEN


def test_without_a_key_the_report_says_that_signatures_were_not_checked(
    tmp_path: Path, short: Chain
) -> None:
    report = verified(tmp_path, short.lines, key=False)

    assert report.is_intact
    assert any("Signatures were not checked" in sentence for sentence in report.unproven)


def test_the_report_counts_the_records_that_no_signature_stands_behind(
    tmp_path: Path, short: Chain
) -> None:
    report = verified(tmp_path, short.lines[:180])

    assert report.chains[0].signed_to == 150
    assert report.chains[0].unsigned_records == 29


# -- several files


def test_files_may_come_in_any_order_and_packed(tmp_path: Path, short: Chain) -> None:
    parts = [short.lines[100:], short.lines[:40], short.lines[40:100]]
    paths = [write(tmp_path / f"{index}", lines) for index, lines in enumerate(parts)]
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(Path(paths[1]).read_bytes()))

    report = verify(find_sources([paths[0], str(packed), paths[2]]), keys=[KEY], workers=1)

    assert report.is_intact
    assert report.chains[0].files == (str(packed), paths[2], paths[0])


def test_a_file_that_is_missing_between_two_is_found(tmp_path: Path, short: Chain) -> None:
    found = only(verified(tmp_path, short.lines[:40], short.lines[100:]))

    assert (found.kind, found.sequence) == (Kind.TRUNCATED, 40)
    assert "records 40 to 99 are missing between" in found.sentence


def test_a_file_that_was_cut_within_a_record_is_found(tmp_path: Path, short: Chain) -> None:
    cut = [*short.lines[:59], short.lines[59][:-30]]

    found = only(verified(tmp_path, cut, short.lines[60:]))

    assert (found.kind, found.line, found.sequence) == (Kind.TRUNCATED, 60, 59)


def test_a_chain_whose_beginning_is_not_given_is_no_tampering(tmp_path: Path, short: Chain) -> None:
    chain = Chain()
    chain.extend(decision(number) for number in range(9))
    chain.append(log_event("opened", 9, cause="rotated"))
    chain.checkpoint()

    report = verified(tmp_path, chain.lines[9:])

    assert report.is_intact
    assert any("begins at 9" in sentence for sentence in report.unproven)


def test_a_file_whose_beginning_is_missing_is_found(tmp_path: Path, short: Chain) -> None:
    found = only(verified(tmp_path, short.lines[100:]))

    assert (found.kind, found.sequence) == (Kind.DROPPED, 99)


def test_a_beginning_that_was_kept_elsewhere_must_be_there(tmp_path: Path, short: Chain) -> None:
    found = verified(tmp_path, short.lines[100:], copies=short.checkpoints).breaks[1]

    assert (found.kind, found.sequence) == (Kind.DROPPED, 50)


def test_a_whole_chain_that_is_missing_is_found_by_what_was_kept_elsewhere(
    tmp_path: Path, short: Chain
) -> None:
    gone = chain_of(10)

    found = only(verified(tmp_path, short.lines, copies=gone.checkpoints))

    assert (found.kind, found.chain) == (Kind.DROPPED, gone.head.chain_uid)


def test_several_chains_are_verified_side_by_side(tmp_path: Path) -> None:
    one, other = chain_of(30), chain_of(40)

    report = verified(tmp_path, one.lines, other.lines)

    assert report.is_intact
    assert {chain.last for chain in report.chains} == {29, 39}


def test_a_file_is_read_once_however_often_it_is_named(tmp_path: Path, short: Chain) -> None:
    path = write(tmp_path / "a", short.lines)

    assert verify(find_sources([path, path]), keys=[KEY], workers=1).is_intact


def test_processes_find_what_one_finds(tmp_path: Path, long: Sequence[bytes]) -> None:
    """The file is walked in parts; its breaks stand in several of them."""
    path = write(tmp_path / "a", [*long[:40_000], *long[40_002:80_000], b"x\n", *long[80_000:]])

    report = verify(find_sources([path]), keys=[KEY], workers=2)

    assert report == verify(find_sources([path]), keys=[KEY], workers=1)
    assert [(found.kind, found.line) for found in report.breaks] == [
        (Kind.DROPPED, 40_001),
        (Kind.INSERTED, 79_999),
    ]


# -- what a crash leaves


def _torn(text: bytes) -> Event:
    return log_event("torn", 5, bytes=len(text), sha256=hashlib.sha256(text).hexdigest())


@pytest.mark.parametrize("torn", [b'{"half":', b"one\ntwo", b"whole line\n"])
def test_a_torn_line_that_the_chain_names_is_excused(tmp_path: Path, torn: bytes) -> None:
    chain = Chain()
    before = [chain.append(decision(0)), torn + b"\n"]
    behind = [chain.append(_torn(torn)), chain.append(decision(1)), chain.checkpoint()]

    report = verified(tmp_path, [*before, *behind])

    assert report.is_intact
    assert [fact.kind for fact in report.facts] == ["torn"]


def test_a_torn_line_that_differs_from_what_the_chain_names_is_not(tmp_path: Path) -> None:
    chain = Chain()
    before = [chain.append(decision(0)), b'{"hulf":\n']
    behind = [chain.append(_torn(b'{"half":')), chain.append(decision(1))]

    assert only(verified(tmp_path, [*before, *behind])).kind is Kind.INSERTED


def test_a_last_line_without_its_newline_is_told(tmp_path: Path, short: Chain) -> None:
    report = verified(tmp_path, [*short.lines[:-1], short.lines[-1][:500]])

    assert report.is_intact
    (fact,) = (fact for fact in report.facts if fact.kind == "torn_tail")
    assert (fact.line, fact.sequence) == (200, 199)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("truncated", {"bytes": 77}, "77 bytes"),
        ("lost", {"records": 3, "since": 1_795_000_000_000}, "3 Checks since 2026-11-18"),
        ("unsynced", {"first": 4, "last": 6}, "4 to 6"),
        ("opened", {"cause": "rotated", "previous": "old.jsonl"}, "rotated, behind old.jsonl"),
    ],
)
def test_what_the_log_says_of_itself_is_reported(
    tmp_path: Path, kind: str, data: dict[str, object], words: str
) -> None:
    chain = Chain()
    chain.append(log_event(kind, 1, **data))

    report = verified(tmp_path, chain.lines)

    assert report.is_intact
    (fact,) = report.facts
    assert fact.kind == kind
    assert words in fact.sentence


# -- what cannot be read


@pytest.mark.parametrize("content", [b"\x00\xff" * 999, b'{"a":1}\n', b"text\n"])
def test_a_file_without_records_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "a", [content])

    with pytest.raises(BadInput, match="holds no audit record"):
        verify(find_sources([path]))


def test_an_empty_file_is_none_of_the_auditors_business(tmp_path: Path, short: Chain) -> None:
    assert verified(tmp_path, short.lines, []).is_intact


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a directory"):
        find_sources([str(tmp_path)])


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        find_sources([str(tmp_path / "none")])


def test_a_broken_package_is_refused(tmp_path: Path, short: Chain) -> None:
    path = write(tmp_path / "a.gz", [gzip.compress(b"".join(short.lines))[:-100]])

    with pytest.raises(BadInput, match="no whole gzip file"):
        verify(find_sources([path]))


# -- anything that one hand can do

Tampering = Callable[[random.Random, list[bytes]], list[bytes]]
OTHER: Final = chain_of(60, every=20)
GIVEN: Final = chain_of(60, every=20)


def _flip(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    data = bytearray(b"".join(lines))
    data[choice.randrange(len(data))] ^= choice.randrange(1, 256)
    return [bytes(data)]


def _drop(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    begin = choice.randrange(len(lines))
    end = choice.randrange(begin + 1, len(lines) + 1)
    return [*lines[:begin], *lines[end:]]


def _swap(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    one, other = choice.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def _duplicate(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    lines.insert(choice.randrange(len(lines) + 1), choice.choice(lines))
    return lines


def _truncate(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    data = b"".join(lines)
    return [data[: choice.randrange(1, len(data) - 1)]]


def _splice(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    at = choice.randrange(len(lines) + 1)
    return [*lines[:at], choice.choice(OTHER.lines), *lines[at + choice.randrange(2) :]]


def _shuffle(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    shuffled = list(lines)
    while shuffled == lines:
        choice.shuffle(shuffled)
    return shuffled


def _newline(choice: random.Random, lines: list[bytes]) -> list[bytes]:
    data = b"".join(lines)
    at = choice.randrange(len(data))
    return [data[:at], b"\n", data[at:]]


@settings(max_examples=300, deadline=None)
@given(
    tampering=st.sampled_from(
        [_flip, _drop, _swap, _duplicate, _truncate, _splice, _shuffle, _newline]
    ),
    choice=st.randoms(use_true_random=False),
)
def test_nothing_that_one_hand_does_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, tampering: Tampering, choice: random.Random
) -> None:
    tampered = tampering(choice, list(GIVEN.lines))
    folder = tmp_path_factory.getbasetemp()
    try:
        report = verified(folder, tampered, copies=GIVEN.checkpoints)
    except BadInput:
        return  # nothing is left of the chain, and that is said

    assert not report.is_intact


def _head_after(line: bytes) -> Head:
    return unlink(line[:-1]).head


def _other_pem() -> str:
    return private_pem(Ed25519PrivateKey.from_private_bytes(b"x" * 32))
