"""I3. Tampering: whatever is done to the log of a real service, `audit verify` names where it begins."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ext_authz.audit.canonical import canonical
from ext_authz.audit.chain import BEGINNING, Head, link, unlink
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.findings import Break, Kind, Report
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import Checkpoints
from tests.abuse.auditing import audit, verified
from tests.abuse.verdicts import Seen
from tests.doubles.audit_settings import NEVER, audit_settings
from tests.pipeline.gateway import Gateway
from tests.unit.auditor.chains import PEM, PRIVATE

CALLS: Final = 12
EVERY: Final = 5  # records, to a checkpoint
STRIDE: Final = 41  # bytes, from one that is flipped to the next
Lines = list[bytes]
Tamper = Callable[[Lines, int], None]


class Evidence:
    """What an auditor holds of a service that ended: its file, checkpoints kept elsewhere, its public key."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "audit.jsonl"
        self.elsewhere = folder / "elsewhere"
        self.key = folder / "public.pem"
        self._public = PRIVATE.public_key()
        pem = self._public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.key.write_bytes(pem)

    def lines(self) -> Lines:
        return self.file.read_bytes().splitlines(keepends=True)

    def verified(
        self, lines: Sequence[bytes], *, by_key: bool = True, by_copies: bool = True
    ) -> Report:
        """The report on a file of these lines."""
        self.file.write_bytes(b"".join(lines))
        parts: dict[str, Any] = {"keys": [self._public] if by_key else []}
        if by_copies:
            parts["copies"] = find_sources([str(self.elsewhere)])
        return verified(self.file, **parts)


@pytest.fixture
async def written(prepared: Gateway) -> Evidence:
    """Of a service that gave some allows, signing as it went."""
    folder = prepared.audit_file.parent
    (folder / "private.pem").touch(mode=0o600)
    (folder / "private.pem").write_text(PEM)
    evidence = Evidence(folder)
    prepared.change(
        audit=audit_settings(
            prepared.audit_file,
            signing_key=SecretSource(file=str(folder / "private.pem")),
            checkpoints=Checkpoints(records=EVERY, seconds=NEVER, file=str(evidence.elsewhere)),
        )
    )
    async with prepared.serving():
        for _ in range(CALLS):
            assert (await prepared.call()).is_allow
    assert evidence.verified(evidence.lines()).is_intact
    return evidence


# ---- one hand on one record


def flip(lines: Lines, at: int) -> None:
    lines[at] = lines[at].replace(b'"time":', b'"tims":', 1)


def drop(lines: Lines, at: int) -> None:
    del lines[at]


def reorder(lines: Lines, at: int) -> None:
    lines[at - 1], lines[at] = lines[at], lines[at - 1]


def duplicate(lines: Lines, at: int) -> None:
    lines.insert(at + 1, lines[at])


def truncate(lines: Lines, at: int) -> None:
    del lines[at:]


TAMPERS: Final[dict[Tamper, Kind]] = {
    flip: Kind.FLIPPED,
    drop: Kind.DROPPED,
    reorder: Kind.REORDERED,
    duplicate: Kind.DUPLICATED,
    truncate: Kind.TRUNCATED,
}


def is_named(found: Break, tamper: Tamper, at: int, last: int) -> bool:
    """Whether this is the break of the record `at`; without its end, a chain has a copy that lies beyond."""
    if tamper is truncate or (tamper is drop and at == last):
        return found.kind is Kind.TRUNCATED and f"its records {at} to" in found.sentence
    return (found.kind, found.sequence) == (TAMPERS[tamper], at)


@pytest.mark.parametrize("tamper", TAMPERS)
def test_i3_whichever_record_was_altered_is_the_first_that_is_named(
    written: Evidence, seen: Seen, tamper: Tamper
) -> None:
    untouched = written.lines()
    numbers = range(1, len(untouched))
    for at in numbers:
        lines = untouched.copy()
        tamper(lines, at)
        first = written.verified(lines).breaks[0]
        assert is_named(first, tamper, at, numbers[-1]), (at, first)
    seen(f"verify: {TAMPERS[tamper]}")


@pytest.mark.parametrize("tamper", TAMPERS)
def test_i3_the_command_says_so_and_fails(written: Evidence, seen: Seen, tamper: Tamper) -> None:
    given = (written.file, "--key", written.key, "--checkpoints", written.elsewhere)
    before = audit("verify", *given)
    lines = written.lines()
    tamper(lines, 7)
    written.file.write_bytes(b"".join(lines))
    after = audit("verify", *given)

    place = after.out.splitlines()[0].rpartition("The first: ")[2].rstrip(".")
    (named,) = (line for line in after.out.splitlines() if line.startswith(f"  {place}: "))
    assert (before.status, before.err) == (0, "")
    assert before.out.startswith("INTACT: ")
    assert (after.status, after.err) == (1, "")
    assert after.out.startswith("TAMPERED: ")
    assert f": {TAMPERS[tamper]}: " in named
    assert "record 7: " in named or "its records 7 to" in named
    seen("exit status 1")


def test_i3_a_flipped_bit_is_found_in_its_record_wherever_it_is(
    written: Evidence, seen: Seen
) -> None:
    untouched = b"".join(written.lines())
    for offset in range(0, len(untouched), STRIDE):
        altered = bytearray(untouched)
        altered[offset] ^= 1 << offset % 8
        first = written.verified([bytes(altered)]).breaks[0]
        number = untouched.count(b"\n", 0, offset)
        assert (first.kind, first.sequence) == (Kind.FLIPPED, number), offset
    seen("verify: flipped")


def test_i3_a_log_of_which_nothing_is_left_is_missed(written: Evidence, seen: Seen) -> None:
    (found, *_) = written.verified([]).breaks

    assert found.kind is Kind.DROPPED
    assert "of which no file was given, or is left" in found.sentence
    seen("verify: dropped")


# ---- an attacker who can compute hashes too


def forged(lines: Sequence[bytes], at: int) -> Lines:
    """The log with somebody else's name in the record `at`, and every hash from there on made anew."""
    altered: Lines = []
    head = Head(unlink(lines[0][:-1]).chain_uid, -1, BEGINNING)
    for number, line in enumerate(lines):
        event = orjson.loads(line)
        del event["unmapped"]["record_integrity"]
        if number == at:
            event["actor"]["user"]["uid"] = "mallory"
        _restate(event, head)
        fresh, head = link(canonical(event), head)
        altered.append(fresh)
    return altered


def _restate(event: dict[str, Any], head: Head) -> None:
    """A checkpoint is made to state where the forged chain stands; to sign that, a key is wanted."""
    checkpoint = event["unmapped"].get("log", {}).get("checkpoint")
    if checkpoint is not None:
        checkpoint |= {"head": head.fingerprint, "sequence": head.sequence}


def numbers_of(lines: Sequence[bytes], kind: str) -> list[int]:
    return [n for n, line in enumerate(lines) if orjson.loads(line)["unmapped"]["event"] == kind]


def test_i3_who_hashes_everything_anew_is_caught_by_the_next_signed_checkpoint(
    written: Evidence, seen: Seen
) -> None:
    untouched = written.lines()
    checkpoints = numbers_of(untouched, "checkpoint")
    assert forged(untouched, -1) == untouched
    for at in numbers_of(untouched, "decision"):
        report = written.verified(forged(untouched, at), by_copies=False)
        after = [number for number in checkpoints if number > at]
        found = [(each.kind, each.sequence) for each in report.breaks]
        assert found == [(Kind.UNSIGNED, number) for number in after]
        assert "its signature is not that of the key" in report.breaks[0].sentence
    seen("verify: unsigned")


def test_i3_who_hashes_everything_anew_is_caught_by_a_checkpoint_that_was_kept_elsewhere(
    written: Evidence, seen: Seen
) -> None:
    untouched = written.lines()
    checkpoints = numbers_of(untouched, "checkpoint")
    for at in numbers_of(untouched, "decision"):
        report = written.verified(forged(untouched, at), by_key=False)
        after = [number for number in checkpoints if number > at]
        found = [(each.kind, each.sequence) for each in report.breaks]
        assert found == [(Kind.REWRITTEN, number) for number in after]
    seen("verify: rewritten")


def test_i3_who_drops_the_signed_checkpoints_as_well_is_missed_where_they_were_kept(
    written: Evidence, seen: Seen
) -> None:
    untouched = written.lines()
    checkpoints = numbers_of(untouched, "checkpoint")
    left = [line for number, line in enumerate(untouched) if number not in checkpoints]
    report = written.verified(forged(left, numbers_of(left, "decision")[0]))

    assert report.breaks
    assert report.chains[0].signed_to is None
    assert {each.file for each in report.breaks} == {str(written.elsewhere)}
    seen("verify: rewritten")


def test_i3_what_could_have_been_forged_behind_the_last_checkpoint_is_said_to_be_unproven(
    written: Evidence, seen: Seen
) -> None:
    """As a kill leaves the log: its last records have no checkpoint behind them yet."""
    untouched = written.lines()
    *_, signed, end = numbers_of(untouched, "checkpoint")
    report = written.verified(forged(untouched[:end], end - 1), by_copies=False)

    bare = end - 1 - signed
    (chain,) = report.chains
    assert bare > 0
    assert report.is_intact
    assert (chain.signed_to, chain.unsigned_records) == (signed, bare)
    assert any(f"{bare} records come after its last signed" in each for each in report.unproven)
    assert any("Records may be missing at the end of a chain" in each for each in report.unproven)
    seen("verify: said to be unproven")
