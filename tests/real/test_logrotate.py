"""A real logrotate, Debian's, again and again while records are written at full speed.

Needs a Docker engine: logrotate runs in a container, on a folder that it shares with the log.
"""

import asyncio
import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog

from ext_authz.audit.chain import Link, unlink
from ext_authz.audit.chain_file import siblings
from ext_authz.audit.log import AuditLog
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.findings import Report
from ext_authz.auditor.verify import verify
from ext_authz.clock import Clock
from tests.doubles.audit_settings import quiet
from tests.real.docker_engine import docker
from tests.unit.audit.chains import assert_one_chain
from tests.unit.audit.writing import Writing, writing

ROTATIONS = 20
BETWEEN = 0.05  # seconds
IMAGE = "mcp-ext-authz-logrotate:test"
DOCKERFILE = """
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends logrotate
CMD ["sleep", "infinity"]
"""
COMMAND = ("logrotate", "--force")
Logrotate = Callable[[str], None]


@pytest.fixture(scope="module")
def the_image() -> str:
    docker("build", "--network", "host", "--quiet", "--tag", IMAGE, "-", given=DOCKERFILE)
    return IMAGE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def logrotate(the_image: str, file: Path) -> Iterator[Logrotate]:
    """Runs it once on the audit file, with these directives."""
    shared = f"{file.parent}:{file.parent}"
    ours = f"{os.getuid()}:{os.getgid()}"
    container = docker("run", "--detach", "--rm", "--user", ours, "--volume", shared, the_image)
    state, configuration = file.with_name("state"), file.with_name("conf")

    def run(directives: str) -> None:
        configuration.write_text(f"{file} {{\n{directives}\nrotate 1000\n}}\n")
        configuration.chmod(0o644)
        docker("exec", container, *COMMAND, "--state", str(state), str(configuration))

    try:
        yield run
    finally:
        docker("rm", "--force", container)


async def rotated(file: Path, logrotate: Logrotate, directives: str) -> Writing:
    """What was written while logrotate ran so many times."""
    async with writing(AuditLog(quiet(file), Clock())) as written:
        for _ in range(ROTATIONS):
            await asyncio.sleep(BETWEEN)
            await asyncio.to_thread(logrotate, directives)
        await asyncio.sleep(BETWEEN)
    return written


def oldest_first(file: Path) -> list[Path]:
    """From audit.jsonl.20.gz over audit.jsonl.1 to audit.jsonl."""
    numbered = {int(name.suffixes[1][1:]): name for name in siblings(file)}
    return [*(numbered[number] for number in sorted(numbered, reverse=True)), file]


def lines_in(file: Path) -> list[bytes]:
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    lines = data.split(b"\n")
    assert lines.pop() == b""
    return lines


def links_in(file: Path) -> list[Link]:
    """Those of the whole records: what was copied in mid-write ends with half of one."""
    return [unlink(line) for line in file.read_bytes().split(b"\n") if line.endswith(b"}}}")]


def verified(files: Sequence[Path]) -> Report:
    return verify(find_sources([str(file) for file in files]), workers=1)


@pytest.mark.parametrize(
    "directives",
    ["nocreate\ncompress\ndelaycompress", "create\ncompress\ndelaycompress", "nocreate\ncompress"],
    ids=["as documented", "create", "compress at once"],
)
async def test_rotated_by_rename_it_loses_nothing(
    file: Path, logrotate: Logrotate, directives: str
) -> None:
    written = await rotated(file, logrotate, directives)
    files = oldest_first(file)
    lines = [line for each in files for line in lines_in(each)]

    assert len(files) == ROTATIONS + 1
    assert_one_chain(lines)
    assert sum(line.startswith(b'{"name":') for line in lines) == len(written.names)
    assert verified(files).is_intact


async def test_copytruncate_is_an_alarm_and_what_it_lost_is_named(
    file: Path, logrotate: Logrotate
) -> None:
    """Between the copy and the cut records are lost. The log cannot help it, and does not hide it."""
    with structlog.testing.capture_logs() as alarms:
        await rotated(file, logrotate, "copytruncate")
    files = oldest_first(file)
    found = {link.sequence for each in files for link in links_in(each)}
    missing = set(range(max(found) + 1)) - found
    gaps = {number for number in missing if number - 1 not in missing}
    report = verified(files)

    cuts = [fact for fact in report.facts if fact.kind == "truncated"]
    assert len(cuts) == ROTATIONS
    assert [alarm["event"] for alarm in alarms] == ["audit_file_truncated"] * ROTATIONS
    assert gaps  # at full speed there are some
    assert {each.sequence for each in report.breaks} == gaps
