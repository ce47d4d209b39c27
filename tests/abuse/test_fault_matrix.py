"""Whatever goes wrong, wherever: the answer is a denial, it is recorded, and nobody is told a secret.

Threats A1, A2 and A5. Each test is one cell of the matrix: one fault at one place.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from io import StringIO
from pathlib import Path
from typing import Final

import grpc
import pytest

from ext_authz import check
from ext_authz._protos.external_auth_pb2 import CheckRequest, CheckResponse
from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub
from ext_authz.access_log.streams import AccessLogStreams
from ext_authz.audit import decision_log
from ext_authz.audit.log import AuditUnavailable, Entry
from ext_authz.grpc_server import grpc_server
from ext_authz.log import configure_logs
from ext_authz.reasons import Reason
from ext_authz.verdict.check_response import check_response
from tests.abuse import envoys_view
from tests.abuse.await_points import await_points
from tests.abuse.faults import CANARY, RAISED, RETURNED, Fault, Hangs, Spoiled
from tests.abuse.rig import Rig
from tests.abuse.seams import SEAMS, Seam
from tests.pipeline.gateway import overheard

AWAITED: Final = tuple(seam for seam in SEAMS if seam.is_awaited)
IN_ONE_CALL: Final = tuple(seam for seam in SEAMS if seam.name != "second flight")
SECONDS: Final = 0.25


@pytest.fixture
def rig(tmp_path: Path, credentials: None) -> Iterator[Rig]:
    with closing(Rig(tmp_path)) as rig:
        yield rig


@pytest.fixture
def hurried_rig(tmp_path: Path, credentials: None) -> Iterator[Rig]:
    """Whose Checks have little time."""
    with closing(Rig(tmp_path, seconds=SECONDS)) as rig:
        yield rig


@pytest.fixture(autouse=True)
def logs() -> Iterator[StringIO]:
    """Everybody's, down to DEBUG."""
    with overheard() as logs:
        yield logs
        assert CANARY not in logs.getvalue()


def spoil(seam: Seam, fault: Fault, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Spoiled:
    seam.prepare(rig)
    part = seam.part(rig)
    spoiled = Spoiled(getattr(part, seam.method), fault, seam.call)
    monkeypatch.setattr(part, seam.method, spoiled.method())
    return spoiled


def assert_denied_and_recorded(response: CheckResponse, rig: Rig) -> None:
    assert not envoys_view.allows(response)
    assert CANARY not in str(response)
    records = [
        record
        for record in rig.records()
        if record["decision_id"] == envoys_view.metadata(response)["decision_id"]
    ]
    assert [(record["verdict"], record["reason"]) for record in records] == [
        ("deny", envoys_view.reason(response))
    ]
    assert CANARY not in rig.audit_file.read_text()


async def answered(seam: Seam, rig: Rig) -> CheckResponse:
    """What `seam` is answered with; some of what might come out instead cannot even be printed."""
    try:
        return await seam.ask(rig)
    except BaseException as error:  # noqa: BLE001
        escaped = type(error).__name__
    pytest.fail(f"{escaped} came out")


def id_of(value: object) -> str:
    return value.name if isinstance(value, Seam) else str(value)


# ---- the stages, and whatever they await


@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("seam", SEAMS, ids=id_of)
async def test_a1_an_exception_is_a_denial(
    seam: Seam, error: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = spoil(seam, RAISED[error](), rig, monkeypatch)

    response = await answered(seam, rig)

    assert spoiled.struck.is_set()
    assert_denied_and_recorded(response, rig)


@pytest.mark.parametrize(
    ("seam", "value"),
    [
        pytest.param(seam, value, id=f"{seam.name}-{value}")
        for seam in SEAMS
        for value in RETURNED
        if value not in seam.takes
    ],
)
async def test_a1_a_wrong_value_is_a_denial(
    seam: Seam, value: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = spoil(seam, RETURNED[value], rig, monkeypatch)

    response = await answered(seam, rig)

    assert spoiled.struck.is_set()
    assert_denied_and_recorded(response, rig)


@pytest.mark.parametrize("seam", AWAITED, ids=id_of)
async def test_a1_a_cancellation_that_nobody_asked_for_is_a_denial(
    seam: Seam, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unanswered, the call would hang until Envoy gave up."""
    spoiled = spoil(seam, asyncio.CancelledError(CANARY), rig, monkeypatch)

    response = await answered(seam, rig)

    assert spoiled.struck.is_set()
    assert_denied_and_recorded(response, rig)


@pytest.mark.parametrize("seam", AWAITED, ids=id_of)
async def test_a5_a_wait_without_end_ends_at_the_deadline(
    seam: Seam, hurried_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = spoil(seam, Hangs(), hurried_rig, monkeypatch)

    response = await asyncio.wait_for(answered(seam, hurried_rig), 20 * SECONDS)

    assert spoiled.struck.is_set()
    assert envoys_view.reason(response) is Reason.DEADLINE_EXCEEDED
    assert_denied_and_recorded(response, hurried_rig)


@pytest.mark.parametrize("seam", AWAITED, ids=id_of)
async def test_a5_a_caller_who_gives_up_leaves_a_record_and_nothing_else(
    seam: Seam, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = spoil(seam, Hangs(), rig, monkeypatch)
    call = asyncio.ensure_future(seam.ask(rig))
    await spoiled.struck.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    verdicts = [record["verdict"] for record in rig.records()]
    assert verdicts.count("abandoned") == 1
    assert verdicts.count("allow") == seam.served


@pytest.mark.parametrize("seam", SEAMS, ids=id_of)
async def test_a1_after_a_fault_the_next_call_is_served(
    seam: Seam, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(seam, RAISED["RuntimeError"](), rig, monkeypatch)
    await seam.ask(rig)
    rig.time.passes(60)

    assert envoys_view.allows(await rig.ask())
    assert rig.records()[-1]["verdict"] == "allow"


# ---- the answer and its record


@pytest.mark.parametrize("error", RAISED)
async def test_a1_an_allow_that_cannot_be_written_is_a_denial(
    error: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = Spoiled(check_response, RAISED[error](), 0)
    monkeypatch.setattr(check, "check_response", writing.method())

    response = await rig.ask()

    assert envoys_view.reason(response) is Reason.INTERNAL
    assert_denied_and_recorded(response, rig)


@pytest.mark.parametrize("error", [*RAISED, "AuditUnavailable"])
@pytest.mark.parametrize("half", ["making", "entering", "waiting"])
async def test_i1_an_allow_that_cannot_be_recorded_is_a_denial(
    half: str, error: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = RAISED[error]() if error in RAISED else AuditUnavailable("No space left on device")
    part, method = {
        "making": (decision_log, "decision_event"),
        "entering": (rig.audit, "enter"),
        "waiting": (Entry, "durable"),
    }[half]
    spoiled = Spoiled(getattr(part, method), fault, 0)
    monkeypatch.setattr(part, method, spoiled.method())

    response = await rig.ask()

    expected = Reason.INTERNAL if error in RAISED else Reason.AUDIT_UNAVAILABLE
    assert envoys_view.reason(response) is expected
    assert not envoys_view.allows(response)
    assert CANARY not in str(response)
    await rig.settled()
    assert [record["verdict"] for record in rig.records()] in ([], ["deny"])


class BrokenFile(StringIO):
    """Takes nothing, like a file on a full disk, or a pipe that nobody reads any more."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        raise self._error


@pytest.mark.parametrize("error", [OSError(28, CANARY), BrokenPipeError(), ValueError("closed")])
async def test_a1_logs_that_cannot_be_written_change_no_verdict(
    error: Exception, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full, it is often full for both: the audit and what stderr leads to."""
    monkeypatch.setattr(sys, "stderr", BrokenFile(error))
    configure_logs()
    spoil(SEAMS[0], RAISED["RuntimeError"](), rig, monkeypatch)

    response = await rig.ask()

    assert envoys_view.reason(response) is Reason.INTERNAL
    assert_denied_and_recorded(response, rig)


# ---- as Envoy asks: over gRPC


@asynccontextmanager
async def over_grpc(rig: Rig) -> AsyncIterator[None]:
    """From here on the rig asks as Envoy does."""
    server, _ = grpc_server(rig.check, AccessLogStreams(rig.outcomes))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = AuthorizationStub(channel)

            async def check(request: CheckRequest) -> CheckResponse:
                return await stub.Check(request, timeout=5)

            rig.answer = check
            yield
    finally:
        await server.stop(None)


@pytest.mark.parametrize("error", ["Chatty", "Unprintable"])
@pytest.mark.parametrize("seam", IN_ONE_CALL, ids=id_of)
async def test_a1_over_grpc_an_exception_is_a_denial(
    seam: Seam, error: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(seam, RAISED[error](), rig, monkeypatch)

    async with over_grpc(rig):
        response = await answered(seam, rig)

    assert_denied_and_recorded(response, rig)


@pytest.mark.parametrize("seam", [seam for seam in IN_ONE_CALL if seam.is_awaited], ids=id_of)
async def test_a1_over_grpc_a_cancellation_that_nobody_asked_for_is_a_denial(
    seam: Seam, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(seam, asyncio.CancelledError(CANARY), rig, monkeypatch)

    async with over_grpc(rig):
        response = await answered(seam, rig)

    assert_denied_and_recorded(response, rig)


@pytest.mark.parametrize("value", RETURNED)
async def test_a1_over_grpc_what_is_no_response_is_an_error(
    value: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = Spoiled(check_response, RETURNED[value], 0)
    monkeypatch.setattr(check, "check_response", writing.method())

    async with over_grpc(rig):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.ask()

    assert CANARY not in str(caught.value)


# ---- the matrix itself


async def test_a2_without_a_fault_the_answer_is_an_allow_and_recorded(rig: Rig) -> None:
    response = await rig.ask()

    assert envoys_view.allows(response)
    assert envoys_view.bearer(response) in rig.authorization_server.holders
    assert [record["verdict"] for record in rig.records()] == ["allow"]


async def test_every_await_is_crossed_by_a_fault(
    tmp_path: Path, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new `await` has to be given its cell: a seam, beyond which it lies."""
    crossed = set()
    for seam in AWAITED:
        directory = tmp_path / seam.name
        directory.mkdir()
        rig = Rig(directory)
        with monkeypatch.context() as patched:
            spoiled = spoil(seam, RAISED["RuntimeError"](), rig, patched)
            await seam.ask(rig)
        crossed |= spoiled.stood_in

    everywhere = await_points(
        "check.py",
        "audit/decision_log.py",
        "identity",
        "exchange",
        "single_flight.py",
        "outbound.py",
        # when the service ends, to a collector, and in a renewal: no Check waits for any of them
        except_in=frozenset({"close", "__aexit__", "post_bytes", "renew", "_stop_after", "drop"}),
    )
    assert everywhere - crossed == set()
