"""How long a token is kept, and how many."""

import asyncio

import pytest

from ext_authz.exchange.token_cache import TokenCache
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
