"""One run at a time for a key, whoever comes and goes meanwhile."""

import asyncio
import gc
from typing import Any

import pytest

from ext_authz.single_flight import SingleFlight, TooManyWait


class Exchange:
    """A run that ends when it is told to, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        return await self._end

    def succeed(self, result: str) -> None:
        self._end.set_result(result)

    def fail(self, error: Exception) -> None:
        self._end.set_exception(error)

    def cancel(self) -> None:
        self._end.cancel()


@pytest.fixture
async def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def flight() -> SingleFlight[str]:
    return SingleFlight()


@pytest.fixture
async def noise() -> list[dict[str, Any]]:
    """What the event loop complains of."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    return heard


async def callers(flight: SingleFlight[str], exchange: Exchange, count: int) -> list[Any]:
    """So many callers of one key, all of them waiting."""
    tasks = [asyncio.create_task(flight.run("key", exchange)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_hundred_callers_share_one_run(
    flight: SingleFlight[str], exchange: Exchange
) -> None:
    tasks = await callers(flight, exchange, 100)
    exchange.succeed("token")
    results = await asyncio.gather(*tasks)

    assert exchange.begun == 1
    assert results == [("token", False)] + [("token", True)] * 99


async def test_two_keys_run_side_by_side(flight: SingleFlight[str]) -> None:
    first, second = Exchange(), Exchange()
    one = asyncio.create_task(flight.run("one", first))
    two = asyncio.create_task(flight.run("two", second))
    second.succeed("second")

    assert await two == ("second", False)
    assert not one.done()
    assert len(flight) == 1
    first.succeed("first")
    assert await one == ("first", False)


async def test_a_finished_run_is_not_joined(flight: SingleFlight[str]) -> None:
    for number in range(3):
        exchange = Exchange()
        exchange.succeed(str(number))

        assert await flight.run("key", exchange) == (str(number), False)
        await asyncio.sleep(0)
    assert len(flight) == 0


async def test_a_failure_is_everyones(flight: SingleFlight[str], exchange: Exchange) -> None:
    tasks = await callers(flight, exchange, 5)
    exchange.fail(OSError("down"))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert exchange.begun == 1
    assert [str(result) for result in results] == ["down"] * 5


async def test_a_failed_run_is_not_joined(flight: SingleFlight[str], exchange: Exchange) -> None:
    exchange.fail(OSError("down"))
    with pytest.raises(OSError, match="down"):
        await flight.run("key", exchange)
    await asyncio.sleep(0)
    again = Exchange()
    again.succeed("token")

    assert await flight.run("key", again) == ("token", False)


@pytest.mark.parametrize("leaver", [0, 1], ids=["who began it", "who joined it"])
async def test_a_caller_who_leaves_takes_the_run_from_nobody(
    flight: SingleFlight[str], exchange: Exchange, leaver: int
) -> None:
    tasks = await callers(flight, exchange, 3)
    tasks[leaver].cancel()
    await asyncio.sleep(0)
    exchange.succeed("token")
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results.pop(leaver), asyncio.CancelledError)
    assert {result[0] for result in results if isinstance(result, tuple)} == {"token"}
    assert len(results) == 2
    assert exchange.begun == 1


async def test_a_run_that_everyone_left_goes_on_and_can_be_joined(
    flight: SingleFlight[str], exchange: Exchange
) -> None:
    for task in await callers(flight, exchange, 3):
        task.cancel()
    late = (await callers(flight, exchange, 1))[0]
    exchange.succeed("token")

    assert await late == ("token", True)
    assert exchange.begun == 1


async def test_a_failure_that_nobody_waits_for_is_no_noise(
    flight: SingleFlight[str], exchange: Exchange, noise: list[dict[str, Any]]
) -> None:
    exchange.fail(OSError("down"))
    await asyncio.wait([flight.begin("key", exchange)])
    await asyncio.sleep(0)
    gc.collect()

    assert len(flight) == 0
    assert noise == []


async def test_a_run_can_be_begun_by_nobody_in_particular_and_joined(
    flight: SingleFlight[str], exchange: Exchange
) -> None:
    begun = flight.begin("key", exchange)
    caller = (await callers(flight, exchange, 1))[0]
    exchange.succeed("token")

    assert flight.begin("key", exchange) is begun
    assert await caller == ("token", True)
    assert (await begun, exchange.begun) == ("token", 1)


async def test_a_run_that_is_cancelled_frees_its_key(
    flight: SingleFlight[str], exchange: Exchange, noise: list[dict[str, Any]]
) -> None:
    tasks = await callers(flight, exchange, 2)
    exchange.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)

    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert len(flight) == 0
    assert noise == []


# ---- so many and no more


async def test_so_many_may_wait_and_no_more(exchange: Exchange) -> None:
    flight: SingleFlight[str] = SingleFlight(3)
    tasks = await callers(flight, exchange, 3)
    for _ in range(2):
        with pytest.raises(TooManyWait):
            await flight.run("key", exchange)
    exchange.succeed("token")

    assert [result for result, _ in await asyncio.gather(*tasks)] == ["token"] * 3
    assert exchange.begun == 1


async def test_one_keys_crowd_is_nobody_elses(exchange: Exchange) -> None:
    flight: SingleFlight[str] = SingleFlight(3)
    await callers(flight, exchange, 3)
    other = Exchange()
    other.succeed("token")

    assert await flight.run("another key", other) == ("token", False)
    exchange.succeed("token")


@pytest.mark.parametrize("end", ["left", "served", "failed"])
async def test_whoever_goes_makes_room(exchange: Exchange, end: str) -> None:
    flight: SingleFlight[str] = SingleFlight(3)
    tasks = await callers(flight, exchange, 3)
    if end == "left":
        for task in tasks:
            task.cancel()
    elif end == "served":
        exchange.succeed("token")
    else:
        exchange.fail(OSError("down"))
    await asyncio.gather(*tasks, return_exceptions=True)
    again = await callers(flight, Exchange() if end != "left" else exchange, 3)

    assert not any(task.done() for task in again)
    for task in again:
        task.cancel()
    await asyncio.gather(*again, return_exceptions=True)
    assert flight._waiters == {}


async def test_a_run_that_nobody_waits_for_takes_no_waiters_room(exchange: Exchange) -> None:
    flight: SingleFlight[str] = SingleFlight(1)
    flight.begin("key", exchange)
    tasks = await callers(flight, exchange, 1)
    exchange.succeed("token")

    assert await tasks[0] == ("token", True)
