"""After a failure the server is left alone, and then asked by one."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
import structlog

from ext_authz.exchange.shared.breaker import (
    FIRST_PAUSE_SECONDS,
    MAX_CALLS,
    PAUSE_SECONDS,
    Argument,
    Breaker,
    Unavailable,
)
from tests.doubles.movable_time import MovableTime


class Scripts:
    """Answers, fails, or waits, as the script says; counts."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.gate = asyncio.Event()

    async def run(self, script: str, names: Sequence[str], arguments: Sequence[Argument]) -> object:
        self.ran.append(script)
        if script == "fail":
            raise Unavailable("TimeoutError")
        if script == "wait":
            await self.gate.wait()
        return [script, *names, *arguments]


@pytest.fixture
def scripts() -> Scripts:
    return Scripts()


@pytest.fixture
def breaker(scripts: Scripts, time: MovableTime) -> Breaker:
    return Breaker(scripts.run, time.clock)


async def fails(breaker: Breaker, script: str = "fail") -> str:
    with pytest.raises(Unavailable) as unavailable:
        await breaker.run(script, ())
    return str(unavailable.value)


async def test_what_the_server_answers_is_given(breaker: Breaker) -> None:
    assert await breaker.run("script", ["name"], [1, b"x"]) == ["script", "name", 1, b"x"]


async def test_a_failure_is_followed_by_silence(
    breaker: Breaker, scripts: Scripts, time: MovableTime
) -> None:
    assert await fails(breaker) == "TimeoutError"
    time.passes(FIRST_PAUSE_SECONDS - 0.1)

    assert [await fails(breaker, "fine") for _ in range(10)] == ["left_alone"] * 10
    assert scripts.ran == ["fail"]


async def test_then_one_goes_to_see_and_nobody_else(
    breaker: Breaker, scripts: Scripts, time: MovableTime
) -> None:
    await fails(breaker)
    time.passes(PAUSE_SECONDS)
    seeing = asyncio.create_task(breaker.run("wait", ()))
    await asyncio.sleep(0)

    assert await fails(breaker, "fine") == "left_alone"
    scripts.gate.set()
    await seeing
    assert await breaker.run("fine", ()) == ["fine"]


async def test_it_is_asked_less_and_less_often_while_it_is_gone(
    breaker: Breaker, scripts: Scripts, time: MovableTime
) -> None:
    asked = []
    for tenths in range(240):
        if await fails(breaker) == "TimeoutError":
            asked.append(tenths)
        time.passes(0.1)

    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert pauses == pytest.approx([5, 10, 20, 40, 50, 50, 50], abs=1)


async def test_after_a_hiccup_it_is_soon_asked_again(breaker: Breaker, time: MovableTime) -> None:
    for _ in range(5):
        await fails(breaker)
        time.passes(FIRST_PAUSE_SECONDS)
        assert await breaker.run("fine", ()) == ["fine"]


async def test_it_is_said_once_that_it_went_and_once_that_it_came_back(
    breaker: Breaker, time: MovableTime
) -> None:
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            await fails(breaker)
            time.passes(PAUSE_SECONDS)
        for _ in range(3):
            await breaker.run("fine", ())

    assert [(line["event"], line.get("fault")) for line in log] == [
        ("shared_cache_lost", "TimeoutError"),
        ("shared_cache_back", None),
    ]


async def test_no_more_than_so_many_ask_at_once(breaker: Breaker, scripts: Scripts) -> None:
    calls = [asyncio.create_task(breaker.run("wait", ())) for _ in range(MAX_CALLS + 5)]
    await asyncio.sleep(0.01)
    assert len(scripts.ran) == MAX_CALLS

    scripts.gate.set()
    await asyncio.gather(*calls)
    assert len(scripts.ran) == MAX_CALLS + 5


async def test_who_waited_for_a_place_does_not_ask_a_server_that_is_lost(
    breaker: Breaker, scripts: Scripts
) -> None:
    calls = [asyncio.create_task(fails(breaker)) for _ in range(MAX_CALLS * 3)]
    faults = await asyncio.gather(*calls)

    assert faults.count("TimeoutError") == len(scripts.ran) <= MAX_CALLS


async def test_a_caller_who_gives_up_says_nothing_of_the_server(
    breaker: Breaker, scripts: Scripts
) -> None:
    call = asyncio.create_task(breaker.run("wait", ()))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])

    assert await breaker.run("fine", ()) == ["fine"]
