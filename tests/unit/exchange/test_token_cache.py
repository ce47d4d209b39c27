"""How long a token is kept, how many, and how many bytes of them."""

import asyncio
import tracemalloc

import pytest

from ext_authz.exchange.access_token import AccessToken, Source, weight
from ext_authz.exchange.token_cache import ENTRY_BYTES, TokenCache
from ext_authz.secret import Secret
from tests.doubles.movable_time import MovableTime


@pytest.fixture
def cache(time: MovableTime) -> TokenCache[str]:
    return TokenCache(time.clock, max_entries=3)


async def test_what_was_put_is_got(cache: TokenCache[str]) -> None:
    await cache.put("key", "value", seconds=60)

    assert await cache.get("key") == "value"


async def test_what_was_not_is_not(cache: TokenCache[str]) -> None:
    assert await cache.get("key") is None


async def test_the_newest_value_of_a_key_counts(cache: TokenCache[str]) -> None:
    await cache.put("key", "old", seconds=60)
    await cache.put("key", "new", seconds=60)

    assert await cache.get("key") == "new"
    assert len(cache) == 1


async def test_two_caches_share_nothing(time: MovableTime, cache: TokenCache[str]) -> None:
    """The library behind them once kept all values in one class attribute."""
    other: TokenCache[str] = TokenCache(time.clock)
    await cache.put("key", "value", seconds=60)

    assert await other.get("key") is None


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
async def test_nothing_without_life_left_is_kept(cache: TokenCache[str], seconds: float) -> None:
    """To the library behind it, a life of 0 is one without end."""
    await cache.put("key", "value", seconds=seconds)

    assert len(cache) == 0
    assert not await cache._store.exists("key")
    assert await cache.get("key") is None


async def test_a_life_ends_when_its_time_has_passed(
    cache: TokenCache[str], time: MovableTime
) -> None:
    await cache.put("key", "value", seconds=60)
    time.passes(59)
    before = await cache.get("key")
    time.passes(1)

    assert before == "value"
    assert await cache.get("key") is None
    assert len(cache) == 0


async def test_a_life_ends_when_the_wall_clock_says_so(
    cache: TokenCache[str], time: MovableTime
) -> None:
    """A machine that slept has a monotonic clock that did."""
    await cache.put("key", "value", seconds=60)
    time.jumps(60)

    assert await cache.get("key") is None


async def test_a_wall_clock_set_back_prolongs_nothing(
    cache: TokenCache[str], time: MovableTime
) -> None:
    await cache.put("key", "value", seconds=60)
    time.jumps(-3600)
    time.passes(60)

    assert await cache.get("key") is None


async def test_what_nobody_asks_for_goes_by_itself(cache: TokenCache[str]) -> None:
    await cache.put("key", "value", seconds=0.01)
    await asyncio.sleep(0.05)

    assert await cache.get("key") is None


async def test_a_value_renewed_in_time_lives_on(cache: TokenCache[str]) -> None:
    await cache.put("key", "old", seconds=0.01)
    await cache.put("key", "new", seconds=60)
    await asyncio.sleep(0.05)

    assert await cache.get("key") == "new"


async def test_the_least_recently_used_goes_first(cache: TokenCache[str]) -> None:
    for key in ("a", "b", "c"):
        await cache.put(key, key, seconds=60)
    await cache.get("a")
    await cache.put("d", "d", seconds=60)

    kept = [key for key in ("a", "b", "c", "d") if await cache.get(key)]
    assert kept == ["a", "c", "d"]


async def test_putting_counts_as_use(cache: TokenCache[str]) -> None:
    for key in ("a", "b", "c", "a", "d"):
        await cache.put(key, key, seconds=60)

    assert await cache.get("a") == "a"
    assert await cache.get("b") is None


async def test_there_are_never_more_than_so_many(cache: TokenCache[str]) -> None:
    for number in range(100):
        await cache.put(str(number), "value", seconds=60)

        assert len(cache) <= 3
    assert len(cache._store._cache) == 3
    assert len(cache._store._handlers) == 3


async def test_what_was_dropped_is_gone(cache: TokenCache[str]) -> None:
    await cache.put("key", "value", seconds=60)
    await cache.drop("key")
    await cache.drop("key")

    assert await cache.get("key") is None
    assert len(cache) == 0


@pytest.mark.parametrize("poison", ["value", None, 7, ("value", 9e9, 9e9)])
async def test_what_we_did_not_put_there_is_a_miss(cache: TokenCache[str], poison: object) -> None:
    await cache._store.set("key", poison)

    assert await cache.get("key") is None
    assert not await cache._store.exists("key")


# ---- bytes


def heavy(time: MovableTime, max_bytes: int) -> TokenCache[str]:
    return TokenCache(time.clock, max_bytes=max_bytes, weigh=len)


async def test_there_are_never_more_bytes_than_so_many(time: MovableTime) -> None:
    cache = heavy(time, 100_000)
    for number in range(200):
        await cache.put(str(number), "v" * (number * 37 % 5_000), seconds=60)

        assert cache.bytes <= 100_000
    assert 20 <= len(cache) < 50
    assert len(cache._store._cache) == len(cache)


async def test_the_least_recently_used_makes_room_for_what_is_heavy(time: MovableTime) -> None:
    cache = heavy(time, 3 * ENTRY_BYTES + 600)
    for key in ("a", "b", "c"):
        await cache.put(key, "v" * 100, seconds=60)
    await cache.get("a")
    await cache.put("d", "v" * 400, seconds=60)

    assert [key for key in ("a", "b", "c", "d") if await cache.get(key)] == ["a", "c", "d"]


async def test_what_is_heavier_than_all_room_is_not_kept(time: MovableTime) -> None:
    cache = heavy(time, 2_000)
    await cache.put("key", "v" * 2_000, seconds=60)

    assert await cache.get("key") is None
    assert (len(cache), cache.bytes) == (0, 0)


async def test_bytes_are_given_back_however_a_value_goes(
    time: MovableTime, cache: TokenCache[str]
) -> None:
    heavy_cache = heavy(time, 1_000_000)
    for value in ("v" * 100, "v" * 300):
        await heavy_cache.put("renewed", value, seconds=60)
    assert heavy_cache.bytes == ENTRY_BYTES + 300
    await heavy_cache.put("expired", "v", seconds=1)
    await heavy_cache.put("dropped", "v", seconds=60)
    await heavy_cache.drop("dropped")
    await heavy_cache.drop("never there")
    time.passes(60)
    for key in ("renewed", "expired"):
        await heavy_cache.get(key)

    assert heavy_cache.bytes == 0


async def test_an_access_token_takes_no_more_memory_than_it_is_counted_for(
    time: MovableTime,
) -> None:
    """Otherwise the bound in bytes would bound something else."""
    cache = TokenCache(time.clock, weigh=weight)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2_000):
            await cache.put(f"{number:064x}", an_access_token(number), seconds=3_600)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert 0.75 * cache.bytes < taken <= cache.bytes


def an_access_token(number: int) -> AccessToken:
    token = AccessToken(
        value=Secret(f"{number:01000d}"),
        issuer="https://idp.corp.example",
        subject=f"user-{number:08d}",
        resource="https://crm.corp.example/mcp",
        scope=tuple(f"tickets.read tickets.write-{number}".split()),
        expires_at=1_795_000_000 + number,
        id_jag_jti=f"{number:036d}",
        source=Source.CACHE,
        id_jag_digest=number.to_bytes(32),
    )
    token.value.digest()
    return token


# ---- near the end


async def test_a_value_is_ending_within_the_seconds_that_were_said(
    cache: TokenCache[str], time: MovableTime
) -> None:
    await cache.put("key", "value", seconds=60, ending=6)
    time.passes(53.9)
    before = cache.is_ending("key")
    time.passes(0.1)

    assert (before, cache.is_ending("key")) == (False, True)
    assert not cache.is_ending("another key")


async def test_a_renewed_value_is_not_ending(cache: TokenCache[str], time: MovableTime) -> None:
    await cache.put("key", "old", seconds=60, ending=6)
    time.passes(55)
    await cache.put("key", "new", seconds=60, ending=6)

    assert not cache.is_ending("key")
