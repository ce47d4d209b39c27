"""What the service really writes, through crashes and rotations, is intact; and nothing less is."""

from pathlib import Path

import pytest

from ext_authz.audit.canonical import canonical
from ext_authz.audit.chain_file import ChainFile, siblings
from ext_authz.audit.checkpoint import Signer, read_public_key
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.findings import Kind, Report
from ext_authz.auditor.verify import verify
from ext_authz.settings.settings import Checkpoints, Rotation
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.movable_time import MovableTime
from tests.unit.auditor.chains import PEM, PUBLIC_PEM, decision

KEY = read_public_key(PUBLIC_PEM.encode())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four files: two were put aside by the service, one by somebody, and one was torn by a crash."""
    file = tmp_path / "audit.jsonl"
    rotation = Rotation(megabytes=0.01, seconds=NEVER)
    checkpoints = Checkpoints(records=5, seconds=NEVER, file=str(tmp_path / "kept"))
    settings = quiet(file, rotation=rotation, checkpoints=checkpoints)
    time = MovableTime()
    chain = ChainFile(settings, Signer(PEM), time.clock)
    for number in range(0, 20, 2):
        time.passes(1)
        chain.write([canonical(decision(number)), canonical(decision(number + 1))])
    file.rename(tmp_path / "audit-by-hand.jsonl")
    chain.write([canonical(decision(20))])
    chain.close()
    with file.open("ab") as torn:
        torn.write(b'{"action":"Allo')
    chain = ChainFile(settings, Signer(PEM), time.clock)
    chain.write([canonical(decision(21))])
    chain.close()
    return file


def files_of(file: Path) -> list[Path]:
    return [file, *siblings(file)]


def verified(files: list[Path]) -> Report:
    kept = find_sources([str(files[0].parent / "kept")])
    return verify(find_sources([str(each) for each in files]), keys=[KEY], copies=kept)


def test_all_of_it_is_intact(file: Path) -> None:
    report = verified(files_of(file))

    assert not report.breaks
    assert report.files >= 4
    assert {"opened", "torn"} == {fact.kind for fact in report.facts}
    assert report.chains[0].unsigned_records == 0


def test_no_file_of_it_can_be_missing(file: Path) -> None:
    for missing in files_of(file):
        rest = [each for each in files_of(file) if each != missing]
        kinds = {found.kind for found in verified(rest).breaks}

        assert kinds <= {Kind.TRUNCATED, Kind.DROPPED}
        assert kinds


def test_the_newest_files_alone_are_intact(file: Path) -> None:
    """Who was given no earlier file is told so, and nobody is accused."""
    report = verify(find_sources([str(file)]), keys=[KEY])

    assert report.is_intact
    assert "earlier files were not given or are missing" in report.unproven[0]
