"""What became of each call: Envoy tells it, and the audit joins it to the decision."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import httpx2
from grpc_health.v1 import health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.demo.figures import json_lines
from ext_authz.demo.front import Front
from ext_authz.demo.loopback import free_ports
from tests.envoy.chaos.crowd import Crowd
from tests.envoy.chaos.load import Caller
from tests.envoy.conftest import Scene
from tests.envoy.fronts import envoy, front_before, service
from tests.envoy.logs import events_in, outcome, outcomes_in, undecided_outcome
from tests.envoy.mcp_call import HEADERS, bearer, call, http_client, post, whoami
from tests.envoy.raw_client import connection
from tests.envoy.recorder import Recorder
from tests.envoy.rogue import rogue_service

DECISION = "x-mcp-ext-authz-decision"
LOAD_SECONDS = 1.0
SETTLED = 1.5  # Envoy sends its entries every half second
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b"5\r\n:ping\r\n"
ACCESS_LOG = "envoy.service.accesslog.v3.AccessLogService"
NARROW = [("grpc.max_receive_message_length", 65536), ("grpc.http2.bdp_probe", 0)]
OUTCOME_SECONDS = ("      audit:\n", "      audit:\n        outcome_seconds: 2\n")
RBAC_OFF = """
                  envoy.filters.http.rbac:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute
"""


def changed(front: Front, *changes: tuple[str, str]) -> None:
    """Puts another text in the place of one, which must be there."""
    text = front.configuration.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    front.configuration.write_text(text)


def said(front: Front, event: str) -> list[dict[str, object]]:
    """The service's own log lines."""
    return [line for line in json_lines(front.folder / "service.err") if line["event"] == event]


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---- one call of each kind


async def test_an_allowed_call_reached_the_server_and_was_answered(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    answer = await call(recorded_front.server_url("crm"), alice)

    told = outcome(recorded_front, answer.headers[DECISION])
    assert told.reached_server
    assert (told.status, told.upstream_status, told.response_flags) == (200, 200, ())
    assert (told.route, told.upstream_cluster) == ("crm", "crm")
    assert told.response_code_details == "via_upstream"


async def test_a_failure_of_the_server_s_own_is_its_status(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    recorder.answer = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"
    answer = await call(recorded_front.server_url("crm"), alice)

    told = outcome(recorded_front, answer.headers[DECISION])
    assert (told.reached_server, told.status, told.upstream_status) == (True, 500, 500)


async def test_a_server_that_talks_nonsense_was_reached_and_has_no_status(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    recorder.answer = b"nonsense\r\n\r\n"
    answer = await call(recorded_front.server_url("crm"), alice)

    told = outcome(recorded_front, answer.headers[DECISION])
    assert (told.reached_server, told.status, told.upstream_status) == (True, 502, None)
    assert told.response_flags == ("UPE",)


async def test_a_denied_call_never_reached_the_server(recorded_front: Front) -> None:
    answer = await call(recorded_front.server_url("crm"))

    told = outcome(recorded_front, answer.headers[DECISION])
    assert (told.reached_server, told.status, told.upstream_status) == (False, 401, None)
    assert (told.response_flags, told.response_code_details) == (("UAEX",), "ext_authz_denied")


async def test_neither_did_one_that_we_answered_with_metadata(recorded_front: Front) -> None:
    async with http_client() as http:
        answer = await http.get(
            f"{recorded_front.url}/.well-known/oauth-protected-resource/crm/mcp"
        )

    told = outcome(recorded_front, answer.headers[DECISION])
    assert (told.reached_server, told.status, told.route) == (False, 200, "resource-metadata")


async def test_a_client_that_left_before_the_answer_got_none(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    recorder.answer = b""
    before = {told.decision_id for told in outcomes_in(recorded_front)}
    sock = connection(recorded_front.url)
    sock.sendall(post("/crm/mcp", alice))
    await asyncio.to_thread(until, lambda: recorder.heard)
    sock.close()
    await asyncio.sleep(SETTLED)

    (told,) = (each for each in outcomes_in(recorded_front) if each.decision_id not in before)
    assert told.decision_id is not None
    assert (told.reached_server, told.status, told.upstream_status) == (True, None, None)
    assert told.response_flags == ("DC",)


async def test_a_call_to_nowhere_and_one_too_large_are_told_of_without_a_decision(
    own_front: Front, alice: str
) -> None:
    async with service(own_front), envoy(own_front), http_client() as http:
        headers = {**HEADERS, **bearer(alice)}
        await http.post(f"{own_front.url}/nowhere")
        await http.post(own_front.server_url("crm"), content=b"x" * 2_000_000, headers=headers)
        too_large = undecided_outcome(own_front, "request_payload_too_large")
        nowhere = [each for each in outcomes_in(own_front) if each.route == "none"]

    assert (too_large.status, too_large.reached_server) == (413, False)
    assert {(each.status, each.reached_server) for each in nowhere} == {(404, False)}
    assert not said(own_front, "call_without_decision")


async def test_a_server_that_is_not_there_was_not_reached(
    scene: Scene, alice: str, tmp_path: Path
) -> None:
    front = front_before(free_ports().crm, scene.world, scene.front, tmp_path)
    async with service(front), envoy(front):
        answer = await call(front.server_url("crm"), alice)
        told = outcome(front, answer.headers[DECISION])

    assert (told.reached_server, told.status, told.upstream_status) == (False, 503, None)
    assert told.response_flags == ("UF",)


async def test_a_call_that_the_interlock_refused_was_not_reached_and_is_no_bypass(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    text = own_front.configuration.read_text()
    checks, name, access_log = text.partition("- name: mcp_ext_authz_access_log")
    head, cluster, tail = checks.rpartition("- name: mcp_ext_authz\n")
    tail = tail.replace("check.sock", "rogue.sock")
    async with (
        service(own_front),
        rogue_service(own_front.folder / "rogue.sock", CheckResponse().SerializeToString()),
    ):
        own_front.configuration.write_text(head + cluster + tail + name + access_log)
        async with envoy(own_front):
            answer = await call(own_front.server_url("crm"), alice)
            told = undecided_outcome(own_front, "rbac_access_denied_matched_policy[none]")

    assert answer.status_code == told.status == 403
    assert not told.reached_server
    assert not said(own_front, "call_without_decision")


# ---- streams


async def test_a_stream_is_told_of_once_when_it_ends_and_is_never_missing(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    """It lasts for twice the time after which an outcome is missing; Envoy says that it goes on."""
    changed(
        own_front,
        ("access_log_flush_interval: 300s", "access_log_flush_interval: 0.5s"),
        OUTCOME_SECONDS,
    )
    recorder.answer = STREAM + PIECE
    headers = {**HEADERS, **bearer(alice)}
    async with service(own_front), envoy(own_front), http_client() as http:
        url = own_front.server_url("crm")
        async with http.stream("POST", url, content=whoami(), headers=headers) as stream:
            decision_id = stream.headers[DECISION]
            await asyncio.sleep(4)
            during = [each for each in outcomes_in(own_front) if each.decision_id]
        told = outcome(own_front, decision_id)
        await asyncio.sleep(SETTLED)
        after = [each for each in outcomes_in(own_front) if each.decision_id]

    assert during == []
    assert after == [told]
    assert (told.status, told.upstream_status, told.response_flags) == (200, 200, ("DC",))
    assert (told.milliseconds or 0) > 4000
    assert events_in(own_front, "outcome_missing") == []
    lines = [line for line in json_lines(own_front.access_log) if line["authz"]]
    assert len(lines) == 1


async def test_a_call_of_which_envoy_never_tells_is_missing(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    changed(own_front, OUTCOME_SECONDS)
    recorder.answer = STREAM + PIECE
    headers = {**HEADERS, **bearer(alice)}
    async with service(own_front), http_client() as http:
        async with envoy(own_front) as proxy:
            await call(f"{own_front.url}/nowhere")
            await asyncio.sleep(SETTLED)
            url = own_front.server_url("crm")
            async with http.stream("POST", url, content=whoami(), headers=headers) as stream:
                decision_id = stream.headers[DECISION]
                proxy.kill()
                await proxy.wait()
        await asyncio.sleep(4)

    (missing,) = events_in(own_front, "outcome_missing")
    assert missing["metadata"]["correlation_uid"] == decision_id
    (line,) = said(own_front, "outcome_missing")
    assert line["decisions"] == 1


# ---- all of them


async def test_there_are_as_many_outcomes_as_calls(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    async with service(own_front), envoy(own_front), http_client() as http:
        url, headers = own_front.server_url("crm"), {**HEADERS, **bearer(alice)}
        await asyncio.sleep(SETTLED)
        before = len(outcomes_in(own_front))
        allowed = [http.post(url, content=whoami(), headers=headers) for _ in range(200)]
        denied = [http.post(url, content=whoami(), headers=HEADERS) for _ in range(100)]
        lost = [http.post(f"{own_front.url}/nowhere") for _ in range(50)]
        answers = await asyncio.gather(*allowed, *denied, *lost)
        await asyncio.sleep(SETTLED)
        told = outcomes_in(own_front)[before:]

    by_id = {each.decision_id: each for each in told if each.decision_id}
    assert len(told) == len(answers) == 350
    assert len(by_id) == 300
    for answer in answers[:300]:
        assert by_id[answer.headers[DECISION]].status == answer.status_code
    assert Counter(each.reached_server for each in told) == {True: 200, False: 150}
    assert len(recorder.heard) == 200


# ---- the service goes and comes


async def test_a_service_that_was_killed_takes_outcomes_again(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    url = own_front.server_url("crm")
    async with envoy(own_front):
        async with service(own_front) as first:
            before = await call(url, alice)
            outcome(own_front, before.headers[DECISION])
            first.kill()
            await first.wait()
            while_down = await call(url, alice)
            await asyncio.sleep(SETTLED)
        async with service(own_front):
            await until_allowed(url, alice)
            after = [await call(url, alice) for _ in range(20)]
            told = [outcome(own_front, answer.headers[DECISION]) for answer in after]

    assert while_down.status_code == 503
    assert [each.status for each in told] == [200] * 20


async def test_a_service_that_starts_late_and_again_under_load_is_told_of_every_call(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    """Envoy is there all the time, and keeps what it has to tell until somebody takes it."""
    crowd = Crowd(own_front.server_url("crm"), [Caller(token=alice, subject="00u-alice")])
    async with envoy(own_front), contextlib.AsyncExitStack() as second:
        async with crowd.calling():
            async with service(own_front):
                await asyncio.sleep(LOAD_SECONDS)
            await second.enter_async_context(service(own_front))
            await asyncio.sleep(LOAD_SECONDS)
        await asyncio.sleep(SETTLED)
        told = Counter(each.decision_id for each in outcomes_in(own_front))

    allowed = {answer.decision_id for answer in crowd.answers if answer.status == 200}
    assert len(allowed) > 100
    assert {told[each] for each in allowed} == {1}


async def until_allowed(url: str, token: str) -> None:
    for _ in range(200):
        if (await call(url, token)).status_code == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError


async def test_envoy_s_stream_does_not_hold_up_a_service_that_is_to_stop(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    async with envoy(own_front), service(own_front) as running:
        answer = await call(own_front.server_url("crm"), alice)
        outcome(own_front, answer.headers[DECISION])
        began = time.monotonic()
        running.terminate()
        status = await running.wait()
        seconds = time.monotonic() - began

    assert status == 0
    assert seconds < 2, seconds
    assert not said(own_front, "access_log_lost")


async def test_what_envoy_keeps_for_a_service_that_does_not_read_is_bounded(
    own_front: Front,
) -> None:
    """It lets entries go rather than grow, and counts them."""
    access_log_goes_to(own_front, "stuck.sock")
    stuck = access_log_that_never_reads(own_front.folder / "stuck.sock")
    async with service(own_front), stuck, envoy(own_front) as proxy:
        await asyncio.to_thread(calls_to_nowhere, own_front.url, 1000)
        before = resident_megabytes(proxy.pid)
        await asyncio.to_thread(calls_to_nowhere, own_front.url, 12_000)
        grown = resident_megabytes(proxy.pid) - before
        dropped = await envoy_counter(own_front, "access_logs.grpc_access_log.logs_dropped")

    assert dropped > 1000
    assert grown < 16


def access_log_goes_to(front: Front, socket: str) -> None:
    """And everything else where it went before."""
    text = front.configuration.read_text()
    others, name, access_log = text.partition("- name: mcp_ext_authz_access_log")
    front.configuration.write_text(others + name + access_log.replace("check.sock", socket, 1))


@contextlib.asynccontextmanager
async def access_log_that_never_reads(socket: Path) -> AsyncIterator[None]:
    stream: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(never_read)
    server = grpc.aio.server(options=NARROW)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(ACCESS_LOG, {"StreamAccessLogs": stream}),)
    )
    add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    yield
    await server.stop(None)


async def never_read(_messages: object, _context: object) -> bytes:
    await asyncio.Event().wait()
    return b""


def calls_to_nowhere(url: str, number: int) -> None:
    """One by one, on one connection."""
    with connection(url) as sock:
        for _ in range(number):
            sock.sendall(b"GET /nowhere HTTP/1.1\r\nhost: front\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 404")


def resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


async def envoy_counter(front: Front, name: str) -> int:
    road = httpx2.AsyncHTTPTransport(uds=str(front.folder / "envoy-admin.sock"))
    async with httpx2.AsyncClient(transport=road) as http:
        stats = (await http.get("http://admin/stats", params={"filter": name})).text
    return int(stats.rpartition(":")[2])


# ---- past the service


async def test_a_call_past_the_service_is_recorded_and_raises_the_alarm(
    own_front: Front, recorder: Recorder
) -> None:
    """Somebody switched ext_authz and the interlock off for a route."""
    changed(
        own_front,
        (
            "check_settings: {context_extensions: {mcp.server: crm}}",
            "disabled: true" + RBAC_OFF.rstrip(),
        ),
    )
    async with service(own_front), envoy(own_front):
        answers = [await call(own_front.server_url("crm")) for _ in range(5)]
        await asyncio.sleep(SETTLED)
        told = [each for each in outcomes_in(own_front) if each.route == "crm"]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert len(recorder.heard) == len(told) == 5
    assert all(each.is_undecided for each in told)
    line = said(own_front, "call_without_decision")[0]
    assert (line["level"], line["route"], line["upstream_cluster"]) == ("error", "crm", "crm")
