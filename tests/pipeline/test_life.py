"""The service in time: callers who give up, peers that are slow, a stop under way."""

import asyncio
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub
from ext_authz.cannot_serve import CannotServe
from ext_authz.reasons import Reason
from ext_authz.server import running
from ext_authz.settings.settings import Timeouts
from tests.doubles.audit_settings import audit_settings
from tests.doubles.loopback import Dial
from tests.pipeline.gateway import Answer, Gateway, overheard

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Raw = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def records(gateway: Gateway, number: int) -> list[dict[str, object]]:
    """Once there are so many: who gave up does not wait for the record of it."""
    async with asyncio.timeout(5):
        while len(gateway.records()) < number:  # noqa: ASYNC110 - the file has no event to wait for
            await asyncio.sleep(0.005)
    return gateway.records()


def health(channel: grpc.aio.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def socket_of(gateway: Gateway) -> Path:
    return Path(gateway.settings.listen.removeprefix("unix:"))


def method(channel: grpc.aio.Channel, name: str) -> Raw:
    """A method of the service, without anything generated on the caller's side."""
    return channel.unary_unary(f"/envoy.service.auth.v3.Authorization/{name}")


# ---- callers who give up


async def test_a_caller_who_gives_up_leaves_a_record(gateway: Gateway) -> None:
    gateway.idp.token.dial = Dial(gate=asyncio.Event())
    call = asyncio.create_task(gateway.call())
    await gateway.idp.token.called.wait()
    call.cancel()

    (record,) = await records(gateway, 1)
    assert (record["verdict"], record["reason"]) == ("abandoned", "abandoned")
    assert (record["subject"], record["server"]) == ("alice", "crm")
    assert record["token_source"] is None


async def test_an_exchange_outlives_the_caller_who_began_it(gateway: Gateway) -> None:
    """Envoy cancels at its deadline; the next call, or one that waits too, has the token."""
    gate = asyncio.Event()
    gateway.idp.token.dial = Dial(gate=gate)
    first = asyncio.create_task(gateway.call())
    await gateway.idp.token.called.wait()
    second = asyncio.create_task(gateway.call())
    first.cancel()
    await records(gateway, 1)
    gate.set()

    assert (await second).is_allow
    assert [record["verdict"] for record in gateway.records()] == ["abandoned", "allow"]
    assert len(gateway.idp.issued) == 1


async def test_envoys_deadline_is_a_caller_who_gives_up(gateway: Gateway) -> None:
    gateway.idp.token.dial = Dial(gate=asyncio.Event())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway._stub.Check(gateway.request(), timeout=0.1)

    (record,) = await records(gateway, 1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert record["verdict"] == "abandoned"


async def test_a_caller_who_gives_up_where_nothing_can_be_written_harms_nobody(
    prepared: Gateway,
) -> None:
    prepared.change(audit=audit_settings("/dev/full"))
    prepared.idp.token.next = [Dial(gate=asyncio.Event())]
    with overheard() as logs:
        async with prepared.serving():
            call = asyncio.create_task(prepared.call())
            await prepared.idp.token.called.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    assert call.cancelled()
    assert '"event": "audit_unavailable"' in logs.getvalue()


# ---- peers that are slow


@pytest.mark.parametrize(
    "timeouts",
    [Timeouts(check=0.2, exchange=5, call=5), Timeouts(check=5, exchange=0.2, call=5)],
    ids=["the check's", "the exchange's"],
)
async def test_a_slow_identity_provider_is_waited_for_only_so_long(
    prepared: Gateway, timeouts: Timeouts
) -> None:
    prepared.change(timeouts=timeouts)
    prepared.idp.token.dial = Dial(delay=3)

    async with prepared.serving():
        answer = await prepared.call()

    assert answer.reason == Reason.DEADLINE_EXCEEDED


async def test_an_answer_in_drops_is_waited_for_only_so_long(prepared: Gateway) -> None:
    prepared.change(timeouts=Timeouts(check=2, exchange=2, call=0.2))
    prepared.authorization_server.token.dial = Dial(dribble=0.01)

    async with prepared.serving():
        answer = await prepared.call()

    assert answer.reason == Reason.AS_UNAVAILABLE


async def test_what_came_too_late_for_one_check_serves_the_next(prepared: Gateway) -> None:
    prepared.change(timeouts=Timeouts(check=0.2, exchange=5, call=5))
    gate = asyncio.Event()
    prepared.idp.token.dial = Dial(gate=gate)

    async with prepared.serving():
        late = await prepared.call()
        gate.set()
        next_one = await prepared.call()

    assert late.reason == Reason.DEADLINE_EXCEEDED
    assert next_one.is_allow
    assert len(prepared.idp.issued) == 1


async def test_an_identity_provider_that_is_down_at_the_start_is_told_of(
    prepared: Gateway,
) -> None:
    """And no reason not to start: it may be up again before the first user comes."""
    prepared.idp.jwks.next = [Dial(status=500)]

    with overheard() as logs:
        async with prepared.serving():
            async with asyncio.timeout(5):
                await prepared.idp.jwks.called.wait()
            answer = await prepared.call()

    assert '"event": "identity_provider_unreachable"' in logs.getvalue()
    assert answer.is_allow


async def test_keys_are_fetched_before_the_first_user_comes(gateway: Gateway) -> None:
    async with asyncio.timeout(5):
        await gateway.idp.jwks.called.wait()

    assert gateway.records() == []


# ---- health, and the stop


@pytest.mark.parametrize("service", ["", "envoy.service.auth.v3.Authorization"])
async def test_a_service_that_runs_is_healthy(gateway: Gateway, service: str) -> None:
    answer = await health(gateway.channel).Check(health_pb2.HealthCheckRequest(service=service))

    assert answer.status == SERVING


async def test_a_stop_is_announced_first_and_what_is_under_way_finished(
    prepared: Gateway,
) -> None:
    gate = asyncio.Event()
    prepared.idp.token.dial = Dial(gate=gate)

    async with (
        grpc.aio.insecure_channel(prepared.settings.listen) as channel,
        AsyncExitStack() as service,
    ):
        await service.enter_async_context(running(prepared.settings, prepared.time.clock))
        watch = health(channel).Watch(health_pb2.HealthCheckRequest())
        before = await watch.read()
        call = AuthorizationStub(channel).Check(prepared.request())
        await prepared.idp.token.called.wait()
        stop = asyncio.create_task(service.aclose())
        after = await watch.read()
        watch.cancel()
        gate.set()
        answer = Answer(await call)
        await stop

    assert (before.status, after.status) == (SERVING, NOT_SERVING)
    assert answer.is_allow


async def test_no_other_method_is_served(gateway: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(gateway.channel, "Allow")(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_empty_check_request_is_denied(gateway: Gateway) -> None:
    answer = CheckResponse.FromString(await method(gateway.channel, "Check")(b""))

    assert answer.HasField("denied_response")
    (record,) = gateway.records()
    assert record["reason"] == Reason.REQUEST_MALFORMED


# ---- where it listens


async def test_it_listens_on_a_loopback_port_too(prepared: Gateway) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prepared.change(listen=f"127.0.0.1:{port}")

    async with prepared.serving():
        assert (await prepared.call()).is_allow


async def test_its_socket_is_for_its_user_and_group(gateway: Gateway) -> None:
    assert stat.S_IMODE(socket_of(gateway).lstat().st_mode) == 0o660


async def test_a_socket_that_a_dead_process_left_is_taken_over(prepared: Gateway) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_of(prepared)))

    async with prepared.serving():
        assert (await prepared.call()).is_allow


async def test_a_port_in_use_is_not_shared(prepared: Gateway) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        prepared.change(listen=f"127.0.0.1:{other.getsockname()[1]}")

        with pytest.raises(CannotServe, match=r"^Cannot listen on 127\.0\.0\.1:\d+: it is in use"):
            await prepared.serving().__aenter__()


async def test_two_services_never_share_a_port(prepared: Gateway) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prepared.change(listen=f"127.0.0.1:{port}")

    async with prepared.serving():
        with pytest.raises(CannotServe):
            await prepared.serving().__aenter__()


async def test_a_socket_in_use_is_not_taken_over(gateway: Gateway) -> None:
    gateway.change(audit=audit_settings(f"{gateway.audit_file}.other"))
    with pytest.raises(CannotServe, match="another process serves there"):
        await gateway.serving().__aenter__()

    assert (await gateway.call()).is_allow


async def test_a_socket_with_too_long_a_name_cannot_be(prepared: Gateway) -> None:
    prepared.change(listen=f"{prepared.settings.listen}{'k' * 200}")

    with pytest.raises(CannotServe, match=r"^Cannot listen on unix:/"):
        await prepared.serving().__aenter__()


async def test_a_file_where_the_socket_should_be_is_not_overwritten(prepared: Gateway) -> None:
    prepared.change(listen=f"unix:{prepared.audit_file}")

    with pytest.raises(CannotServe, match="a file that is no socket stands there"):
        await prepared.serving().__aenter__()
    assert prepared.records() == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"listen": "unix:/nowhere/check.sock"},
            r"^Cannot listen on unix:/nowhere/check.sock: the directory /nowhere does not exist\.$",
        ),
        (
            {"audit": audit_settings("/nowhere/audit.jsonl")},
            r"^The audit log cannot be used: cannot open /nowhere/audit.jsonl: No such file",
        ),
        (
            {"audit": audit_settings("/")},
            r"^The audit log cannot be used: cannot open /: Is a directory\.$",
        ),
    ],
    ids=str,
)
async def test_what_cannot_be_is_said_in_one_sentence(
    prepared: Gateway, settings: dict[str, str], sentence: str
) -> None:
    prepared.change(**settings)

    with pytest.raises(CannotServe, match=sentence):
        await prepared.serving().__aenter__()
