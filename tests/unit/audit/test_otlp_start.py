"""What has to be there before the first record can leave, when it is sent, and when no more."""

import asyncio
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path

import pytest
import structlog
import trustme

from ext_authz.audit.log import AuditLog
from ext_authz.audit.otlp.position import position_file
from ext_authz.audit.otlp.sink import OtlpSink
from ext_authz.audit.otlp.start import OtlpUnusable, sent_to_collector
from ext_authz.clock import Clock
from ext_authz.outbound import MAX_ANSWER_BYTES, Outbound, OutboundError
from ext_authz.settings.settings import AuditSettings
from ext_authz.settings.settings import OtlpSink as OtlpSettings
from tests.doubles.audit_settings import quiet
from tests.doubles.otlp_receiver import OtlpReceiver
from tests.unit.audit.chains import whole_lines
from tests.unit.raw_peer import RawPeer, answer, saying

REPOSITORY = Path(__file__).parents[3]
SOON = 30.0
EVENT = {"name": "x", "unmapped": {"event": "decision"}}
NOT_ASKED_FOR = """
import asyncio, sys
from ext_authz.audit.otlp.start import sent_to_collector
from ext_authz.clock import Clock
from tests.doubles.audit_settings import quiet

async def main():
    async with sent_to_collector(quiet("/nowhere/audit.jsonl"), Clock()):
        print("opentelemetry" in sys.modules)

asyncio.run(main())
"""


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def settings(tmp_path: Path, receiver: OtlpReceiver) -> AuditSettings:
    return sending(tmp_path / "audit.jsonl", receiver.url)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - it looks at another thread
            await asyncio.sleep(0.01)


def finish_within(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OtlpSink, "finish", partialmethod(OtlpSink.finish, seconds=seconds))


def sending(file: Path | str, url: str) -> AuditSettings:
    return quiet(file, otlp=OtlpSettings(endpoint=url, headers={}))


async def test_everything_is_sent_the_end_of_the_log_included(
    settings: AuditSettings, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_within(SOON, monkeypatch)
    async with sent_to_collector(settings, Clock()):
        audit = AuditLog(settings, Clock())
        for _ in range(20):
            await audit.append(EVENT, seconds=SOON)
        await audit.close()
    lines = [line.decode() for line in whole_lines(Path(settings.file))]

    assert '"event":"checkpoint"' in lines[-1]
    assert receiver.lines == lines


async def test_nothing_is_sent_behind_an_exception(
    settings: AuditSettings, receiver: OtlpReceiver
) -> None:
    """As where another process has the log: what stands in the file is that one's to send."""
    audit = AuditLog(settings, Clock())
    await audit.append(EVENT, seconds=SOON)
    with pytest.raises(RuntimeError):
        async with sent_to_collector(settings, Clock()):
            raise RuntimeError
    await audit.close()

    assert receiver.posts == []
    assert not position_file(Path(settings.file)).exists()


async def test_https_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    finish_within(0.1, monkeypatch)
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with OtlpReceiver(tls=tls) as receiver:
        settings = sending(tmp_path / "audit.jsonl", receiver.url)
        audit = AuditLog(settings, Clock())
        await audit.append(EVENT, seconds=SOON)
        with structlog.testing.capture_logs() as log:
            async with sent_to_collector(settings, Clock()):
                await until(lambda: bool(log))
        assert receiver.posts == []
        assert log[0]["fault"] == "could not connect"

        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        async with sent_to_collector(settings, Clock()):
            await until(lambda: len(receiver.lines) == 2)
        await audit.close()


async def test_without_the_extra_the_fix_is_told(
    settings: AuditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith(("ext_authz.audit.otlp.", "opentelemetry")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(OtlpUnusable) as unusable:
        async with sent_to_collector(settings, Clock()):
            pass
    assert str(unusable.value) == (
        "`audit.otlp` needs a package that is missing: pip install 'mcp-ext-authz[otlp]'"
    )


async def test_a_broken_installation_of_ours_is_no_missing_extra(
    settings: AuditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ext_authz.audit.otlp.sink", None)

    with pytest.raises(ModuleNotFoundError):
        async with sent_to_collector(settings, Clock()):
            pass


def test_who_does_not_ask_for_it_does_not_load_it() -> None:
    command = [sys.executable, "-c", NOT_ASKED_FOR]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


async def test_who_does_not_ask_for_it_has_no_thread_of_it(tmp_path: Path) -> None:
    before = threading.active_count()
    async with sent_to_collector(quiet(tmp_path / "audit.jsonl"), Clock()):
        assert threading.active_count() == before


async def test_only_a_file_can_be_followed(receiver: OtlpReceiver) -> None:
    with pytest.raises(OtlpUnusable, match="needs a file"):
        async with sent_to_collector(sending("/dev/null", receiver.url), Clock()):
            pass


async def test_bytes_are_posted_as_they_are_with_the_type_given(outbound: Outbound) -> None:
    headers = {"content-type": "application/x-protobuf", "accept": "application/x-protobuf"}
    async with RawPeer(saying(answer(b"\x00\xff"))) as peer:
        reply = await outbound.post_bytes(peer.url, b"a=1&\x00\xff", headers)
    head, _, body = peer.heard[0].partition(b"\r\n\r\n")

    assert (reply.status, reply.body) == (200, b"\x00\xff")
    assert body == b"a=1&\x00\xff"
    assert head.lower().count(b"\r\ncontent-type: ") == 1
    assert head.lower().count(b"\r\naccept: ") == 1
    assert b"\r\ncontent-type: application/x-protobuf" in head.lower()
    assert b"\r\naccept: application/x-protobuf" in head.lower()


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (answer(b"", "location: http://127.0.0.1:1/", status="307 Elsewhere"), "redirected"),
        (answer(b"x" * (MAX_ANSWER_BYTES + 1)), "too large"),
        (answer(b"x", "content-encoding: gzip"), "compressed"),
    ],
)
async def test_the_guards_hold_for_bytes_as_well(
    outbound: Outbound, said: bytes, fault: str
) -> None:
    async with RawPeer(saying(said)) as peer:
        with pytest.raises(OutboundError, match=fault):
            await outbound.post_bytes(peer.url, b"x", {})
        assert len(peer.heard) == 1


@pytest.mark.parametrize("url", ["http://192.0.2.1/v1/logs", "https://169.254.169.254/v1/logs"])
async def test_only_guarded_addresses_are_posted_to(outbound: Outbound, url: str) -> None:
    with pytest.raises(OutboundError):
        await outbound.post_bytes(url, b"x", {})
