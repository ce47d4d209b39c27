"""A collector that we did not write (Rotel, in Rust), and behind it a backend that keeps what it gets.

It is stopped and killed, and so is the service, while records are written and files put aside.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any, Self

import pytest
import rotel
import structlog
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from ext_authz import __version__
from ext_authz.audit.chain import unlink
from ext_authz.audit.log import AuditLog
from ext_authz.audit.otlp.sink import OtlpSink
from ext_authz.audit.otlp.start import sent_to_collector
from ext_authz.clock import Clock
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import AuditSettings, Rotation
from ext_authz.settings.settings import OtlpSink as OtlpSettings
from tests.doubles.audit_settings import NEVER, quiet
from tests.doubles.otlp_receiver import OtlpReceiver
from tests.unit.audit.chains import assert_one_chain, whole_lines

REPOSITORY = Path(__file__).parents[3]
AGENT = Path(rotel.__file__).parent / "rotel-agent"
SOON = 60.0
CANARY = "canary-c0ffee"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DENIED: Mapping[str, Any] = {
    "action_id": 2,
    "actor": {"app_uid": "agent-7", "user": {"domain": "https://idp.example", "uid": "ann"}},
    "api": {"operation": "tools/call", "service": {"name": "crm"}},
    "metadata": {"correlation_uid": "d-1"},
    "resources": [{"name": "close_ticket", "type": "tool"}],
    "severity_id": 1,
    "status_code": "scope_denied",
    "time": 1_795_000_000_123,
    "unmapped": {
        "decision": {"traceparent": f"00-{TRACE}-{SPAN}-01", "verdict": "deny"},
        "event": "decision",
    },
}
OUTCOME: Mapping[str, Any] = {
    "http_response": {"code": 200},
    "metadata": {"correlation_uid": "d-2"},
    "severity_id": 1,
    "unmapped": {"event": "outcome", "outcome": {"reached_server": True}},
}
Log = list[MutableMapping[str, Any]]


class Program:
    """A process of ours, and what it printed."""

    def __init__(self, printed: Path, *command: str | Path) -> None:
        self._command = command
        self._printed = printed
        self.start()

    def start(self) -> None:
        with self._printed.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        self.send(number)
        return self._process.wait(SOON)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - it looks at other threads and processes
            await asyncio.sleep(0.02)


@pytest.fixture
def backend() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as backend:
        yield backend


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def collector(tmp_path: Path, backend: OtlpReceiver, port: int) -> Iterator[Program]:
    options = {
        "otlp-http-endpoint": f"127.0.0.1:{port}",
        "otlp-grpc-endpoint": f"127.0.0.1:{free_port()}",
        "exporter": "otlp",
        "otlp-exporter-protocol": "http",
        "otlp-exporter-endpoint": f"http://127.0.0.1:{backend.port}",
        "logs-batch-timeout": "20ms",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    with Program(tmp_path / "collector.out", AGENT, "start", *flags) as collector:
        yield collector


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "audit"
    folder.mkdir()
    return folder / "audit.jsonl"


@pytest.fixture
def settings(tmp_path: Path, file: Path, port: int) -> AuditSettings:
    """Files are put aside at 20 kB."""
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(f"Bearer {CANARY}")
    headers = {"authorization": SecretSource(file=str(key))}
    otlp = OtlpSettings(endpoint=f"http://127.0.0.1:{port}/v1/logs", headers=headers)
    return quiet(file, otlp=otlp, rotation=Rotation(megabytes=0.02, seconds=NEVER))


@pytest.fixture
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@asynccontextmanager
async def audit_log(settings: AuditSettings) -> AsyncIterator[AuditLog]:
    """A log as the service runs it, in this process."""
    clock = Clock()
    async with sent_to_collector(settings, clock):
        log = AuditLog(settings, clock)
        try:
            yield log
        finally:
            await log.close()


async def append(log: AuditLog, number: int) -> None:
    for _ in range(number):
        await log.append(DENIED, seconds=SOON)


def written(file: Path) -> list[bytes]:
    """Every line of the file and of those put aside, by its number."""
    files = [path for path in file.parent.iterdir() if path.suffix == ".jsonl"]
    lines = [line for path in files for line in whole_lines(path)]
    return sorted(lines, key=lambda line: unlink(line).sequence)


def received(backend: OtlpReceiver) -> list[bytes]:
    return [line.encode() for line in backend.lines]


def size(file: Path) -> int:
    """Of all files, while they are put aside."""
    total = 0
    for path in file.parent.glob("audit*.jsonl"):
        if path.exists():
            total += path.stat().st_size
    return total


async def records_written(file: Path, by: int) -> None:
    """Waits for so many more bytes in the files."""
    enough = size(file) + by
    await soon(lambda: size(file) >= enough)


def has_all(file: Path, backend: OtlpReceiver) -> bool:
    return set(received(backend)) >= set(written(file))


async def assert_everything_arrives(
    settings: AuditSettings, file: Path, backend: OtlpReceiver
) -> None:
    """Whatever the service had no time for is sent by the next one."""
    async with sent_to_collector(settings, Clock()):
        await soon(lambda: has_all(file, backend))
    lines = written(file)

    assert_one_chain(lines)
    assert set(received(backend)) == set(lines)


def attributes(pairs: Any) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def named(backend: OtlpReceiver, name: str) -> LogRecord:
    (log,) = [log for log in backend.logs if log.event_name == name]
    return log


async def test_a_record_comes_out_of_the_collector_as_the_data_model_has_it(
    settings: AuditSettings, file: Path, collector: Program, backend: OtlpReceiver
) -> None:
    async with audit_log(settings) as log:
        await log.append(DENIED, seconds=SOON)
        await log.append(OUTCOME, seconds=SOON)
        await soon(lambda: len(backend.logs) >= 3)  # `opened` is the first
    denied, outcome = (named(backend, f"mcp_ext_authz.{kind}") for kind in ("decision", "outcome"))
    line = whole_lines(file)[1]
    link = unlink(line)
    resource = ExportLogsServiceRequest.FromString(backend.posts[0].body).resource_logs[0]

    assert attributes(resource.resource.attributes) == {
        "service.name": "mcp-ext-authz",
        "service.version": __version__,
        "service.instance.id": link.chain_uid,
    }
    assert (resource.scope_logs[0].scope.name, resource.scope_logs[0].scope.version) == (
        "ext_authz.audit",
        __version__,
    )
    assert denied.body.string_value.encode() == line
    assert denied.time_unix_nano == 1_795_000_000_123_000_000
    assert denied.observed_time_unix_nano > denied.time_unix_nano
    assert (denied.severity_number, denied.severity_text) == (
        SeverityNumber.SEVERITY_NUMBER_WARN,
        "WARN",
    )
    assert (denied.trace_id.hex(), denied.span_id.hex(), denied.flags) == (TRACE, SPAN, 1)
    assert attributes(denied.attributes) == {
        "log.record.uid": f"{link.chain_uid}/1/{link.fingerprint[:16]}",
        "mcp_ext_authz.chain.uid": link.chain_uid,
        "mcp_ext_authz.chain.sequence": 1,
        "mcp_ext_authz.chain.fingerprint": link.fingerprint,
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "close_ticket",
        "user.id": "ann",
        "error.type": "scope_denied",
        "mcp_ext_authz.agent": "agent-7",
        "mcp_ext_authz.decision_id": "d-1",
        "mcp_ext_authz.issuer": "https://idp.example",
        "mcp_ext_authz.server": "crm",
        "mcp_ext_authz.verdict": "deny",
    }
    assert outcome.severity_number == SeverityNumber.SEVERITY_NUMBER_INFO
    assert attributes(outcome.attributes)["http.response.status_code"] == 200
    assert attributes(outcome.attributes)["mcp_ext_authz.reached_server"] is True
    assert named(backend, "mcp_ext_authz.opened").severity_text == "INFO"


async def test_every_record_arrives_over_rotations_and_an_outage(
    settings: AuditSettings, file: Path, collector: Program, backend: OtlpReceiver, log: Log
) -> None:
    """And the credential for the collector stands in no byte of ours."""
    async with audit_log(settings) as audit:
        await append(audit, 100)
        await soon(lambda: has_all(file, backend))
        collector.stop()
        await append(audit, 100)
        await soon(lambda: any(entry["event"] == "audit_otlp_unavailable" for entry in log))
        collector.start()
        await append(audit, 100)
        await soon(lambda: has_all(file, backend))
    await assert_everything_arrives(settings, file, backend)

    assert len(list(file.parent.glob("audit-*.jsonl"))) > 5
    assert log[-1]["event"] == "audit_otlp_recovered"
    files = b"".join(path.read_bytes() for path in file.parent.iterdir())
    bodies = b"".join(post.body for post in backend.posts)
    assert CANARY.encode() not in files + bodies + repr(log).encode()


async def test_what_the_service_left_unsent_is_sent_by_the_next(
    settings: AuditSettings,
    file: Path,
    collector: Program,
    backend: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collector is killed meanwhile. What it had acknowledged, it had handed on."""
    async with audit_log(settings) as log:
        await append(log, 50)
    await assert_everything_arrives(settings, file, backend)
    collector.stop(signal.SIGKILL)
    monkeypatch.setattr(OtlpSink, "finish", partialmethod(OtlpSink.finish, seconds=0.1))
    async with audit_log(settings) as log:
        await append(log, 100)
    assert not has_all(file, backend)
    collector.start()
    await assert_everything_arrives(settings, file, backend)


async def test_a_service_that_is_killed_while_the_collector_hangs_misses_nothing(
    settings: AuditSettings, file: Path, tmp_path: Path, collector: Program, backend: OtlpReceiver
) -> None:
    """It hangs, and does not die: what it acknowledged and holds in its memory is its own."""
    assert settings.otlp
    command = (sys.executable, "-m", "tests.unit.audit.audited_process", file)
    with Program(tmp_path / "service.out", *command, settings.otlp.endpoint) as service:
        await soon(lambda: len(backend.logs) >= 200)
        collector.send(signal.SIGSTOP)
        await records_written(file, by=50_000)
        service.stop(signal.SIGKILL)
        collector.send(signal.SIGCONT)
        service.start()
        await records_written(file, by=50_000)
        assert service.stop() == 0
    await assert_everything_arrives(settings, file, backend)
