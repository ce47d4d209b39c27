"""The scripts, on a real Valkey: who holds the lease, and what becomes of those who lost it."""

from collections.abc import Sequence

import pytest

from ext_authz.exchange.shared.breaker import Argument, Breaker, Unavailable
from ext_authz.exchange.shared.lease import LEASE_SECONDS, MAX_SEALED, Found, Lease, Leases, NoLease
from tests.doubles.movable_time import MovableTime
from tests.doubles.valkey import Valkey

NAMES = ("a" * 64,)
TWO = ("a" * 64, "b" * 64)
OWNERS = "mcp-ext-authz:lease:" + NAMES[0]


async def lease_of(leases: Leases, names: tuple[str, ...] = NAMES) -> Lease:
    lease = await leases.claim(names)
    assert isinstance(lease, Lease)
    return lease


async def test_one_gets_the_lease_and_the_others_wait(leases: Leases, valkey: Valkey) -> None:
    await lease_of(leases)

    assert await leases.claim(NAMES) is NoLease.BUSY
    left = await valkey.client.pttl(OWNERS)
    assert 0 < left <= LEASE_SECONDS * 1000


async def test_what_the_holder_keeps_is_found(leases: Leases) -> None:
    assert await leases.keep(await lease_of(leases), b"sealed", seconds=60)

    found = await leases.claim(NAMES)
    assert isinstance(found, Found)
    assert found.sealed == b"sealed"
    assert 55 < found.seconds <= 60


async def test_a_lease_that_was_released_is_anothers(leases: Leases) -> None:
    first = await lease_of(leases)
    assert await leases.release(first)

    second = await lease_of(leases)
    assert second.owner != first.owner
    assert not await leases.release(first)
    assert await leases.claim(NAMES) is NoLease.BUSY


async def test_who_lost_the_lease_neither_renews_nor_keeps(leases: Leases, valkey: Valkey) -> None:
    lost = await lease_of(leases)
    await valkey.empty()
    assert not await leases.renew(lost)
    assert not await leases.keep(lost, b"late", seconds=60)

    holder = await lease_of(leases)
    assert not await leases.keep(lost, b"late", seconds=60)
    assert await leases.keep(holder, b"newer", seconds=60)
    assert not await leases.keep(lost, b"late", seconds=60)
    found = await leases.claim(NAMES)
    assert isinstance(found, Found)
    assert found.sealed == b"newer"


async def test_a_lease_is_renewed_for_its_whole_time(leases: Leases, valkey: Valkey) -> None:
    lease = await lease_of(leases)
    await valkey.client.pexpire(OWNERS, 500)
    assert await leases.renew(lease)

    assert await valkey.client.pttl(OWNERS) > 1000


@pytest.mark.parametrize(("size", "seconds"), [(MAX_SEALED + 1, 60), (10, 0), (10, -1)])
async def test_what_cannot_be_kept_ends_the_lease(
    leases: Leases, valkey: Valkey, size: int, seconds: float
) -> None:
    assert await leases.keep(await lease_of(leases), b"x" * size, seconds=seconds)

    assert await valkey.everything() == {}


async def test_what_is_unwanted_is_as_good_as_absent_and_stays(
    leases: Leases, valkey: Valkey
) -> None:
    await leases.keep(await lease_of(leases), b"old", seconds=60)

    assert isinstance(await leases.claim(NAMES, [b"other", b"old"]), Lease)
    assert b"old" in (await valkey.everything()).values()


async def test_only_the_very_value_is_discarded(leases: Leases) -> None:
    await leases.keep(await lease_of(leases), b"new", seconds=60)
    assert not await leases.discard(NAMES, b"old")
    assert isinstance(await leases.claim(NAMES), Found)

    await leases.discard(NAMES, b"new")
    assert isinstance(await leases.claim(NAMES), Lease)


async def test_under_the_previous_keys_name_it_is_found_too(leases: Leases) -> None:
    await leases.keep(await lease_of(leases, TWO[::-1]), b"sealed", seconds=60)

    assert isinstance(await leases.claim(TWO), Found)


async def test_a_lease_under_the_previous_keys_name_counts_too(leases: Leases) -> None:
    await lease_of(leases, TWO[::-1])

    assert await leases.claim(TWO) is NoLease.BUSY


async def test_leases_of_another_type_are_nobodys(leases: Leases, valkey: Valkey) -> None:
    lease = await lease_of(leases)
    await valkey.empty()
    await valkey.client.rpush(OWNERS, "a")

    assert not await leases.renew(lease)
    assert not await leases.keep(lease, b"late", seconds=60)
    assert not await leases.release(lease)


async def test_many_are_deleted(leases: Leases, valkey: Valkey) -> None:
    """More than one call deletes."""
    many = [(f"{n:064x}",) for n in range(1200)]
    for names in many[::100]:
        await leases.keep(await lease_of(leases, names), b"sealed", seconds=60)
    await lease_of(leases, many[1])
    await leases.delete(many)

    assert await valkey.everything() == {}


@pytest.mark.parametrize(
    "answer", [None, 1, [], [b"found"], [b"found", "text", 1], [b"found", b"x", None], [b"new"]]
)
async def test_an_answer_that_no_script_gives_is_odd(answer: object, time: MovableTime) -> None:
    async def run(script: str, names: Sequence[str], arguments: Sequence[Argument]) -> object:
        return answer

    leases = Leases(Breaker(run, time.clock))

    assert await leases.claim(NAMES) is NoLease.ODD
    assert await leases.look() is (answer == 1)


async def test_a_server_that_is_gone_is_no_error_but_where_it_matters(
    leases: Leases, valkey: Valkey
) -> None:
    lease = await lease_of(leases)
    valkey.kill()

    assert not await leases.look()
    assert not await leases.renew(lease)
    assert not await leases.keep(lease, b"x", seconds=1)
    with pytest.raises(Unavailable):
        await leases.claim(NAMES)
    with pytest.raises(Unavailable):
        await leases.delete([NAMES])
