"""A. Verdict and fail-closed: whatever breaks, the answer is no, and it comes."""

import ast
import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2

import ext_authz
from ext_authz._protos.external_auth_pb2 import CheckResponse, DeniedHttpResponse
from ext_authz.audit.chain_file import ChainFile
from ext_authz.demo.front import Front
from ext_authz.server import running
from ext_authz.settings.load import load_settings
from ext_authz.settings.settings import Timeouts
from tests.abuse.program import behind, program, settings_file
from tests.abuse.verdicts import DeniedWith, Seen, assert_no_allow
from tests.doubles.loopback import PROVIDERS_WORDS, Dial
from tests.envoy.fronts import envoy
from tests.envoy.mcp_call import call
from tests.envoy.recorder import Recorder
from tests.envoy.rogue import rogue_service
from tests.envoy.test_interlock import OK, ok_response
from tests.envoy.test_outage import assert_unavailable, until_served
from tests.pipeline.gateway import Answer, Gateway, overheard
from tests.pipeline.test_allow import KINDS
from tests.pipeline.test_deny import REQUESTS, TOKENS
from tests.pipeline.test_life import Raw, health, records
from tests.pipeline.test_process import serve

# ---- A1: a fault in any stage

STAGES = {
    "facts": "ext_authz.check.read_facts",
    "server": "ext_authz.request.catalogue.Catalogue.server_of",
    "message": "ext_authz.check.read_message",
    "user token": "ext_authz.check.user_token",
    "user": "ext_authz.identity.verify.Users.verify",
    "access token": "ext_authz.exchange.access_tokens.AccessTokens.token_for",
    "allow": "ext_authz.check.Allow",
    "record": "ext_authz.audit.decision_log.decision_event",
}
FAULTS: Sequence[type[BaseException]] = (
    RuntimeError,
    KeyError,
    MemoryError,
    RecursionError,
    OSError,
    asyncio.CancelledError,
)


def breaks(fault: type[BaseException]) -> Callable[..., NoReturn]:
    """A stage that raises `fault`, with words that nobody should hear."""

    def stage(*_: object, **__: object) -> NoReturn:
        raise fault(PROVIDERS_WORDS)

    return stage


@pytest.mark.parametrize("stage", STAGES)
async def test_a1_a_fault_in_any_stage_is_a_denial(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, seen: Seen, stage: str
) -> None:
    for fault in FAULTS:
        if stage == "record" and fault is asyncio.CancelledError:
            continue  # writing a record never waits, so nobody can cancel it
        monkeypatch.setattr(STAGES[stage], breaks(fault))
        with overheard() as logs:
            answer = await gateway.call()

        assert_no_allow(gateway, answer)
        assert answer.reason == "internal"
        assert PROVIDERS_WORDS not in logs.getvalue()
    seen("deny internal")


async def test_a1_where_no_answer_can_be_written_envoy_gets_an_error_without_a_word(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setattr("ext_authz.check.check_response", breaks(RuntimeError))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call()

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "")
    seen("gRPC INTERNAL, no text")


# ---- A2: no allow by default


def _is_whole_allow(answer: Answer) -> bool:
    headers = [each.header.key for each in answer.response.ok_response.headers]
    return headers == ["authorization"] and answer.metadata.get("verdict") == "allow"


async def test_a2_a_response_is_ok_if_and_only_if_it_is_a_whole_allow(
    gateway: Gateway, seen: Seen
) -> None:
    requests: list[dict[str, Any]] = [request for request, _, _ in KINDS.values()]
    requests += REQUESTS.values()
    requests += [{"token": token(gateway)} for token in TOKENS.values()]
    requests += [{"token": None, "message": None, "method": method} for method in ("GET", "DELETE")]

    answers = [await gateway.call(**request) for request in requests]

    for answer in answers:
        assert (answer.response.status.code == 0) is _is_whole_allow(answer)
        assert answer.is_allow is _is_whole_allow(answer)
    assert sum(answer.is_allow for answer in answers) == len(KINDS)
    seen("OK only as a whole allow")


def test_a2_one_module_writes_responses_and_none_of_them_empty(seen: Seen) -> None:
    package = Path(ext_authz.__file__).parent
    written = [
        (file.relative_to(package).as_posix(), bool(node.keywords))
        for file in package.rglob("*.py")
        if "_protos" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "CheckResponse"
    ]

    assert set(written) == {("verdict/check_response.py", True)}
    seen("no default response")


# ---- A3: the interlock


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(CheckResponse(), id="empty"),
        pytest.param(
            CheckResponse(status=OK, denied_response=DeniedHttpResponse()), id="OK and denied"
        ),
        pytest.param(CheckResponse(status=OK, ok_response=ok_response()), id="OK"),
    ],
)
async def test_a3_an_answer_that_is_no_whole_allow_is_stopped_by_the_interlock(
    own_front: Front, recorder: Recorder, alice: str, seen: Seen, response: CheckResponse
) -> None:
    socket = own_front.folder / "check.sock"
    async with rogue_service(socket, response.SerializeToString()), envoy(own_front):
        answer = await call(own_front.server_url("crm"), alice)

    assert answer.status_code == 403
    assert recorder.heard == []
    seen("403 by the interlock")


# ---- A4: no service, or none that can be understood

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    await asyncio.Event().wait()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closed with bytes unread, a Unix socket gives its peer ECONNRESET."""
    await reader.read(1)
    writer.transport.abort()


async def talks_http_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def instead_of_the_service(front: Front, talk: Talk) -> AsyncIterator[None]:
    """Something else on the service's socket."""
    talks: set[asyncio.Task[None] | None] = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(asyncio.CancelledError, OSError):
            await talk(reader, writer)

    server = await asyncio.start_unix_server(begin, front.folder / "check.sock")
    try:
        yield
    finally:
        server.close()
        for task in filter(None, talks):
            task.cancel()
        await asyncio.gather(*filter(None, talks))


async def test_a4_a_service_that_is_down_is_a_503(
    own_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    async with envoy(own_front):
        assert_unavailable(await call(own_front.server_url("crm"), alice))

    assert recorder.heard == []
    seen("503 service_unavailable")


@pytest.mark.parametrize("talk", [hangs, resets, talks_http_1])
async def test_a4_a_peer_that_is_no_service_is_a_503(
    own_front: Front, recorder: Recorder, alice: str, seen: Seen, talk: Talk
) -> None:
    async with instead_of_the_service(own_front, talk), envoy(own_front):
        began = time.monotonic()
        assert_unavailable(await call(own_front.server_url("crm"), alice))

    assert time.monotonic() - began < 8
    assert recorder.heard == []
    seen("503 service_unavailable")


@pytest.mark.parametrize(
    "response", [b"\xff no protobuf", bytes(16 * 2**20)], ids=["wrong protobuf", "over-size"]
)
async def test_a4_an_answer_that_cannot_be_read_is_a_503(
    own_front: Front, recorder: Recorder, alice: str, seen: Seen, response: bytes
) -> None:
    async with rogue_service(own_front.folder / "check.sock", response), envoy(own_front):
        assert_unavailable(await call(own_front.server_url("crm"), alice))

    assert recorder.heard == []
    seen("503 service_unavailable")


async def test_a4_a_check_request_of_over_size_is_refused_unread(
    gateway: Gateway, seen: Seen
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call(message={"text": "x" * 5_000_000})

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert gateway.records() == []
    seen("gRPC RESOURCE_EXHAUSTED")


# ---- A5: the deadline


@pytest.mark.parametrize("leg", [1, 2])
async def test_a5_a_deadline_in_either_leg_is_a_denial_and_the_exchange_is_finished_for_others(
    prepared: Gateway, seen: Seen, leg: int
) -> None:
    prepared.change(timeouts=Timeouts(check=0.2, exchange=5, call=5))
    gate = asyncio.Event()
    endpoint = (prepared.idp.token, prepared.authorization_server.token)[leg - 1]
    endpoint.dial = Dial(gate=gate)

    async with prepared.serving():
        late = await prepared.call()
        gate.set()
        next_one = await prepared.call()

    assert_no_allow(prepared, late)
    assert late.reason == "deadline_exceeded"
    assert next_one.is_allow
    assert len(prepared.idp.issued) == 1
    seen("deny deadline_exceeded")


async def test_a5_envoys_own_deadline_leaves_a_record(gateway: Gateway, seen: Seen) -> None:
    gateway.idp.token.dial = Dial(gate=asyncio.Event())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway._stub.Check(gateway.request(), timeout=0.1)

    (record,) = await records(gateway, 1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert record["verdict"] == "abandoned"
    seen("abandoned")


def verdicts(gateway: Gateway) -> list[object]:
    return [record["verdict"] for record in gateway.records()]


async def test_a5_a_deadline_while_the_record_is_written_lets_nothing_pass(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    """Nobody gets the allow, and a correction behind its record says so."""
    write = ChainFile.write

    def write_slowly(chain: ChainFile, events: Sequence[bytes]) -> bytes:
        time.sleep(0.5)
        return write(chain, events)

    monkeypatch.setattr(ChainFile, "write", write_slowly)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway._stub.Check(gateway.request(), timeout=0.4)

    async with asyncio.timeout(5):
        while verdicts(gateway) != ["abandoned"]:  # noqa: ASYNC110 - a file has no event to await
            await asyncio.sleep(0.01)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    seen("no answer; recorded as abandoned")


# ---- A6: overload

MOST = 8


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ext_authz.grpc_server.MAX_CONCURRENT_CHECKS", MOST)


async def code_of(attempt: Awaitable[Answer]) -> grpc.StatusCode:
    try:
        return grpc.StatusCode.OK if (await attempt).is_allow else grpc.StatusCode.UNKNOWN
    except grpc.aio.AioRpcError as error:
        return error.code()


async def test_a6_more_checks_than_it_can_take_are_refused_at_once_and_it_recovers(
    few_at_once: None, prepared: Gateway, seen: Seen
) -> None:
    gate = asyncio.Event()
    prepared.idp.token.dial = Dial(gate=gate)
    async with prepared.serving():
        await prepared.idp.jwks.called.wait()
        waiting = [asyncio.create_task(code_of(prepared.call())) for _ in range(MOST)]
        await prepared.idp.token.called.wait()
        await asyncio.sleep(0.2)  # until all of them wait for the one exchange
        began = time.monotonic()
        refused = await asyncio.gather(*(code_of(prepared.call()) for _ in range(5 * MOST)))
        refused_within = time.monotonic() - began
        gate.set()
        served = await asyncio.gather(*waiting)
        recovered = await code_of(prepared.call())

    assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert refused_within < 1
    assert {*served, recovered} == {grpc.StatusCode.OK}
    assert len(prepared.records()) == MOST + 1
    seen("gRPC RESOURCE_EXHAUSTED")


async def test_a6_behind_envoy_overload_is_a_503_at_once_and_it_recovers(
    few_at_once: None, own_front: Front, recorder: Recorder, alice: str, seen: Seen
) -> None:
    url = own_front.server_url("crm")
    settings = load_settings(str(own_front.configuration))
    gate = asyncio.Event()

    async def wait(*_: object) -> NoReturn:
        await gate.wait()
        raise RuntimeError

    async with running(settings), envoy(own_front):
        await until_served(url, alice)
        recorder.heard.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ext_authz.identity.verify.Users.verify", wait)
            waiting = [asyncio.create_task(call(url, alice)) for _ in range(MOST)]
            await asyncio.sleep(0.5)
            began = time.monotonic()
            refused = await call(url, alice)
            refused_within = time.monotonic() - began
            gate.set()
            await asyncio.gather(*waiting)
        freed = time.monotonic()
        await until_served(url, alice)
        recovered_within = time.monotonic() - freed

    assert_unavailable(refused)
    assert refused_within < 1
    assert recovered_within < 1
    assert len(recorder.heard) == 1
    seen("503 service_unavailable")


# ---- A7: SIGTERM


async def test_a7_told_to_stop_under_load_it_finishes_what_is_in_flight_and_takes_no_more(
    credentials: None, seen: Seen
) -> None:
    async with behind() as gateway:
        gate = asyncio.Event()
        gateway.idp.token.dial = Dial(gate=gate)
        async with program(gateway) as process:
            watch = health(gateway.channel).Watch(health_pb2.HealthCheckRequest())
            before = (await watch.read()).status
            checks = [asyncio.create_task(gateway.call()) for _ in range(50)]
            await gateway.idp.token.called.wait()
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            after = (await watch.read()).status
            watch.cancel()
            late = await code_of(gateway.call(token=None))
            gate.set()
            answers = await asyncio.gather(*checks)
            status = await process.wait()

    assert (before, after) == (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert late is grpc.StatusCode.UNAVAILABLE
    assert {answer.authorization for answer in answers} == {
        f"Bearer {token}" for token in gateway.authorization_server.holders
    }
    assert status == 0
    seen("in-flight allow; later UNAVAILABLE")


# ---- A8: settings that are wrong


async def test_a8_wrong_settings_are_refused_at_the_start_with_every_fault(
    credentials: None, tmp_path: Path, seen: Seen
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("listen: 0.0.0.0:9191\nidentity_providers: []\nsurprise: true\n")

    process = await serve(file)
    _, errors = await process.communicate()

    named = {line.split(": ")[1] for line in errors.decode().splitlines()}
    assert process.returncode == 2
    assert named == {
        "listen",
        "identity_providers",
        "authorization_servers",
        "audit",
        "surprise",
    }
    seen("exit 2, every fault")


async def test_a8_a_file_that_goes_wrong_later_changes_nothing(
    credentials: None, seen: Seen
) -> None:
    """Settings are read once, at the start: there is no reload that could go wrong."""
    async with behind() as gateway, program(gateway) as process:
        before = await gateway.call()
        settings_file(gateway, {"servers": {}, "surprise": True})
        after = await gateway.call()
        still_runs = process.returncode is None

    assert before.is_allow
    assert after.is_allow
    assert still_runs
    seen("old settings stay")


# ---- A9: no way around the Check


@pytest.mark.parametrize("agent", ["kube-probe/1.34", "GoogleHC/1.0", "Envoy/HC", "curl/8"])
@pytest.mark.parametrize("path", ["/ping", "/healthz", "/ready", "/crm/mcp/../healthz"])
async def test_a9_no_user_agent_and_no_path_makes_a_check_succeed(
    gateway: Gateway, denied: DeniedWith, agent: str, path: str
) -> None:
    answer = await gateway.call(
        token=None, message=None, method="GET", path=path, headers={"user-agent": agent}
    )

    denied(answer, "token_missing")


@pytest.mark.parametrize(
    "name",
    [
        "/envoy.service.auth.v3.Authorization/Allow",
        "/envoy.service.auth.v2.Authorization/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Checks",
    ],
)
async def test_a9_no_other_method_answers(gateway: Gateway, seen: Seen, name: str) -> None:
    method: Raw = gateway.channel.unary_unary(name)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(gateway.request().SerializeToString())

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    seen("gRPC UNIMPLEMENTED")
