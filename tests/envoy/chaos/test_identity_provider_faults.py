"""The identity provider fails: who has an access token goes on, who has none is told why in time."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.envoy.chaos.faulty_road import FaultyRoad, Manner
from tests.envoy.chaos.gateway import Gateway, until
from tests.envoy.chaos.load import Load, borne

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHECK_SECONDS = 5  # `timeouts.check`
RECOVERY_SECONDS = 5  # failures are remembered for two
PAGE = b"<!doctype html><title>Sign in</title>" * 100


def answering(head: bytes, body: bytes) -> Manner:
    async def answer(request: bytes, back: asyncio.StreamWriter) -> None:
        length = b"content-length: %d\r\n\r\n" % len(body)
        back.write(b"HTTP/1.1 " + head + b"\r\n" + length + body)

    return answer


async def never(request: bytes, back: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dribbling(request: bytes, back: asyncio.StreamWriter) -> None:
    back.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while not back.is_closing():
        back.write(b" ")
        await back.drain()
        await asyncio.sleep(0.1)


def bomb() -> bytes:
    """Fifty megabytes of JSON, in fifty kilobytes."""
    packer = zlib.compressobj(wbits=31)
    piece = b" " * 1_000_000
    return b"".join([*(packer.compress(piece) for _ in range(50)), packer.flush()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`manner` is None where nothing listens any more."""

    name: str
    manner: Manner | None
    reason: str


FAULTS = (
    Fault(name="down", manner=None, reason="idp_unavailable"),
    Fault(name="slow", manner=never, reason="idp_unavailable"),
    Fault(name="dribbling", manner=dribbling, reason="idp_unavailable"),
    Fault(name="HTML", manner=answering(b"200 OK", PAGE), reason="idp_answer_invalid"),
    Fault(
        name="gzip bomb",
        manner=answering(b"200 OK\r\ncontent-encoding: gzip", bomb()),
        reason="idp_unavailable",
    ),
    Fault(
        name="redirect",
        manner=answering(b"307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/token", b""),
        reason="idp_unavailable",
    ),
)


@contextlib.asynccontextmanager
async def at_fault(road: FaultyRoad, fault: Fault) -> AsyncIterator[None]:
    if fault.manner is None:
        await road.close()
    else:
        road.manner = fault.manner
    try:
        yield
    finally:
        road.manner = road.pass_on
        if fault.manner is None:
            await road.open()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_who_has_a_token_goes_on_and_who_has_none_is_told_why(
    gate: Gateway, fault: Fault
) -> None:
    load = Load(gate.url, (*await gate.warm_users(), gate.stranger()))
    newcomers = [gate.user(name) for name in ("alice", "bob", "carol")]
    async with load.going():
        async with at_fault(gate.idp_road, fault):
            denials = await asyncio.gather(*map(gate.call, newcomers))
        others = [*denials]

        async def all_are_served() -> bool:
            others.extend(await asyncio.gather(*map(gate.call, newcomers)))
            return {answer.status for answer in others[-len(newcomers) :]} == {200}

        await until(all_are_served, RECOVERY_SECONDS)
    result = borne(load.answers, gate.upstream, others)

    assert {denial.reason for denial in denials} == {fault.reason}
    assert {denial.status for denial in denials} <= {502, 503}
    assert max(denial.seconds for denial in denials) < CHECK_SECONDS + 1
    assert result.errors == []
    assert result.wrong_allows == []
