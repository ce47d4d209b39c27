"""The machine runs out of something: what cannot be done in full is denied, and later it is done."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from tests.envoy.chaos.both_sides import count
from tests.envoy.chaos.gateway import Gateway, Replica, until
from tests.envoy.chaos.load import Answered, Load, borne

pytestmark = pytest.mark.asyncio(loop_scope="session")

FULL_SECONDS = 1.5
ROOM = 20
CONNECTIONS = 200
RECOVERY_SECONDS = 5
HALF_A_RECORD = 200  # bytes
CHECK_SECONDS = 5  # `timeouts.check`


@contextlib.contextmanager
def limited(replica: Replica, what: int, value: int) -> Iterator[None]:
    """Lowers a limit of the running process: needs no root, and no disk of its own to fill."""
    before, most = resource.prlimit(replica.process.pid, what)
    resource.prlimit(replica.process.pid, what, (value, most))
    try:
        yield
    finally:
        resource.prlimit(replica.process.pid, what, (before, most))


# ---- the disk of the audit


async def test_a_full_disk_denies_everything_until_there_is_space_again(gate: Gateway) -> None:
    """RLIMIT_FSIZE: a record is cut off half-way, and the next cannot be begun."""
    users = await gate.warm_users()
    load = Load(gate.url, (*users, gate.stranger()))
    async with load.going():
        await asyncio.sleep(0.5)
        with contextlib.ExitStack() as full:
            for replica in gate.replicas:
                size = replica.audit_file.stat().st_size + HALF_A_RECORD
                full.enter_context(limited(replica, resource.RLIMIT_FSIZE, size))
            await asyncio.sleep(FULL_SECONDS)
            heard = len(gate.upstream.heard)
            denials = [await gate.call(user) for user in users]
            assert len(gate.upstream.heard) == heard
        await asyncio.sleep(0.5)
    result = borne(load.answers, gate.upstream, denials)
    counted = count(gate)
    allowed = {one.decision_id for one in result.answers if one.status == 200}

    assert {(denial.status, denial.reason) for denial in denials} == {(503, "audit_unavailable")}
    assert {(error.status, error.reason) for error in result.errors} == {(503, "audit_unavailable")}
    assert result.wrong_allows == []
    assert {one.status for one in last(result.answers)} == {200, 401}
    assert counted.missing == set()
    assert allowed <= counted.allowed
    assert len(allowed) == len(gate.upstream.heard)


def last(answers: Sequence[Answered]) -> Sequence[Answered]:
    end = max(answer.at for answer in answers)
    return [answer for answer in answers if answer.at > end - 0.3]


# ---- file descriptors


@contextlib.asynccontextmanager
async def no_descriptors_left(replicas: Sequence[Replica]) -> AsyncIterator[None]:
    """Takes what connections each replica has room for, and many more."""
    async with contextlib.AsyncExitStack() as stack:
        for replica in replicas:
            room = replica.descriptors() + ROOM
            stack.enter_context(limited(replica, resource.RLIMIT_NOFILE, room))
            for _ in range(CONNECTIONS):
                _reader, writer = await asyncio.open_unix_connection(replica.socket)
                stack.callback(writer.close)
        yield


async def test_without_descriptors_who_has_a_token_goes_on_and_others_are_denied(
    gate: Gateway,
) -> None:
    load = Load(gate.url, (*await gate.warm_users(), gate.stranger()))
    async with load.going():
        async with no_descriptors_left(gate.replicas):
            await asyncio.sleep(1)
            denials = [await gate.call(gate.user(name)) for name in ("alice", "bob", "carol")]

        others = [*denials]

        async def newcomers_are_served() -> bool:
            others.append(await gate.call(gate.user()))
            return others[-1].status == 200

        await until(newcomers_are_served, RECOVERY_SECONDS)
    result = borne(load.answers, gate.upstream, others)

    # neither our key's file nor a connection to the identity provider can be opened
    assert {denial.reason for denial in denials} <= {"hub_client_refused", "idp_unavailable"}
    assert {denial.status for denial in denials} == {503}
    assert max(denial.seconds for denial in denials) < CHECK_SECONDS + 1
    assert result.errors == []
    assert result.wrong_allows == []
