"""When an endpoint is asked, when it is left alone, and who asks first when it may live again."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from structlog.testing import capture_logs

from ext_authz.exchange.circuit_breaker import CircuitBreaker, CircuitOpen, Permit
from tests.doubles.movable_time import MovableTime


@pytest.fixture
def breaker(time: MovableTime) -> CircuitBreaker:
    return CircuitBreaker("https://idp.example", time.clock)


@pytest.fixture
def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    fail(breaker, 5)
    return breaker


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.admitted() as permit:
            permit.failed()


def answer(breaker: CircuitBreaker) -> None:
    with breaker.admitted() as permit:
        permit.answered()


def wait_of(breaker: CircuitBreaker) -> int | None:
    """The seconds that a caller is told to wait; None for one who is let through."""
    try:
        with breaker.admitted():
            return None
    except CircuitOpen as refusal:
        return refusal.retry_after


# ---- open


def test_four_failures_are_no_outage(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)

    assert wait_of(breaker) is None


def test_five_failures_in_a_row_open_it(opened: CircuitBreaker) -> None:
    assert wait_of(opened) == 5


def test_an_answer_between_them_begins_the_count_anew(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    answer(breaker)
    fail(breaker, 4)

    assert wait_of(breaker) is None


def test_failures_at_once_count_like_those_in_a_row(breaker: CircuitBreaker) -> None:
    """Fifty calls are on their way when the endpoint dies: it opens once, for 5 s."""
    with several(breaker, 50) as permits:
        for permit in permits:
            permit.failed()

    assert wait_of(breaker) == 5


def test_a_call_of_which_nothing_is_told_says_nothing(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    assert wait_of(breaker) is None
    fail(breaker)

    assert wait_of(breaker) == 5


@pytest.mark.parametrize(("seconds", "wait"), [(1.9, None), (2.0, 5)])
def test_a_call_that_was_cut_off_counts_only_where_it_had_time(
    breaker: CircuitBreaker, seconds: float, wait: int | None
) -> None:
    """Where leg 1 took all of the exchange's time, leg 2's endpoint has done nothing wrong."""
    for _ in range(5):
        with breaker.admitted() as permit:
            permit.cut_off(seconds)

    assert wait_of(breaker) == wait


def test_it_stays_open_for_its_seconds(opened: CircuitBreaker, time: MovableTime) -> None:
    time.passes(4.9)
    before = wait_of(opened)
    time.passes(0.1)

    assert (before, wait_of(opened)) == (1, None)


def test_chance_lets_replicas_probe_one_after_another(time: MovableTime) -> None:
    time.chance = 0.5
    breaker = CircuitBreaker("https://idp.example", time.clock)
    fail(breaker, 5)
    time.passes(4.5)

    assert wait_of(breaker) is None


@pytest.mark.parametrize(("retry_after", "seconds"), [(1, 5), (30, 30), (600, 60)])
def test_an_endpoint_that_names_its_time_is_given_it_up_to_a_minute(
    breaker: CircuitBreaker, retry_after: int, seconds: int
) -> None:
    fail(breaker, 4)
    with breaker.admitted() as permit:
        permit.failed(retry_after)

    assert wait_of(breaker) == seconds


def test_failures_that_come_late_prolong_nothing(
    breaker: CircuitBreaker, time: MovableTime
) -> None:
    with several(breaker, 10) as permits:
        for permit in permits[:5]:
            permit.failed()
        time.passes(4)
        for permit in permits[5:]:
            permit.failed()

    assert wait_of(breaker) == 1


# ---- half-open


def test_one_probe_goes_at_a_time(opened: CircuitBreaker, time: MovableTime) -> None:
    time.passes(5)
    with opened.admitted():
        assert wait_of(opened) == 1
        assert wait_of(opened) == 1


def test_a_probe_that_is_answered_closes_it(opened: CircuitBreaker, time: MovableTime) -> None:
    time.passes(5)
    answer(opened)
    fail(opened, 4)

    assert opened.is_closed
    assert wait_of(opened) is None


def test_each_probe_that_fails_doubles_the_time_up_to_a_minute(
    opened: CircuitBreaker, time: MovableTime
) -> None:
    waits = []
    for _ in range(6):
        waits.append(wait_of(opened) or 0)
        time.passes(waits[-1])
        fail(opened)

    assert waits == [5, 10, 20, 40, 60, 60]


def test_once_closed_it_begins_with_five_seconds_again(
    opened: CircuitBreaker, time: MovableTime
) -> None:
    time.passes(5)
    fail(opened)
    time.passes(10)
    answer(opened)
    fail(opened, 5)

    assert wait_of(opened) == 5


async def test_a_cancelled_probe_leaves_the_next_one_free(
    opened: CircuitBreaker, time: MovableTime
) -> None:
    async def probe() -> None:
        with opened.admitted():
            await asyncio.Event().wait()

    time.passes(5)
    for _ in range(3):
        task = asyncio.create_task(probe())
        await asyncio.sleep(0)
        assert wait_of(opened) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    answer(opened)

    assert opened.is_closed


def test_a_late_answer_closes_it_too(breaker: CircuitBreaker, time: MovableTime) -> None:
    """The call was begun before; that the endpoint lives is known now."""
    with breaker.admitted() as slow:
        fail(breaker, 5)
        time.passes(3)
        slow.answered()

    assert wait_of(breaker) is None


def test_a_late_failure_is_not_the_probes(breaker: CircuitBreaker, time: MovableTime) -> None:
    with breaker.admitted() as slow:
        fail(breaker, 5)
        time.passes(5)
        with breaker.admitted() as probe:
            slow.failed()
            assert wait_of(breaker) == 1
            probe.answered()

    assert wait_of(breaker) is None


def test_a_probe_that_fails_after_somebody_elses_answer_is_one_failure(
    breaker: CircuitBreaker, time: MovableTime
) -> None:
    with breaker.admitted() as slow:
        fail(breaker, 5)
        time.passes(5)
        with breaker.admitted() as probe:
            slow.answered()
            probe.failed()

    assert wait_of(breaker) is None


# ---- clocks that go wrong


@pytest.mark.parametrize("seconds", [-1e6, 1e6])
def test_a_wall_clock_that_jumps_changes_nothing(
    opened: CircuitBreaker, time: MovableTime, seconds: float
) -> None:
    time.jumps(seconds)

    assert wait_of(opened) == 5


def test_a_monotonic_clock_that_goes_back_does_not_hold_it_open(
    opened: CircuitBreaker, time: MovableTime
) -> None:
    time.monotonic -= 4_000

    assert wait_of(opened) is None


# ---- what the operator reads


def test_the_log_has_one_line_when_it_opens_and_one_when_it_closes(
    breaker: CircuitBreaker, time: MovableTime
) -> None:
    with capture_logs() as lines:
        with several(breaker, 20) as permits:
            for permit in permits:
                permit.failed()
        for seconds in (5, 10, 20):
            time.passes(seconds)
            fail(breaker)
        time.passes(40)
        answer(breaker)
        answer(breaker)

    said = {"room": "exchange", "endpoint": "https://idp.example"}
    assert lines == [
        {"event": "circuit_opened", "seconds": 5.0, "log_level": "warning", **said},
        {"event": "circuit_closed", "log_level": "info", **said},
    ]


@contextmanager
def several(breaker: CircuitBreaker, count: int) -> Iterator[list[Permit]]:
    """So many calls on their way at once."""
    admissions = [breaker.admitted() for _ in range(count)]
    permits = [admission.__enter__() for admission in admissions]
    try:
        yield permits
    finally:
        for admission in admissions:
            admission.__exit__(None, None, None)


# ---- any story at all


class Breaker(RuleBasedStateMachine):
    """Calls that begin, end, get lost and come late, while time passes and clocks jump."""

    def __init__(self) -> None:
        super().__init__()
        self.time = MovableTime()
        self.breaker = CircuitBreaker("https://idp.example", self.time.clock)
        self.running: list[tuple[AbstractContextManager[Permit], Permit]] = []
        self.probe: Permit | None = None
        self.failures = 0
        self.refused_since: float | None = None

    @initialize(chance=st.floats(0, 1, exclude_max=True))
    def chances(self, chance: float) -> None:
        self.time.chance = chance

    @rule()
    def begins(self) -> None:
        was_closed = self.breaker.is_closed
        admission = self.breaker.admitted()
        try:
            permit = admission.__enter__()
        except CircuitOpen as refusal:
            self._refused(refusal, was_closed=was_closed)
            return
        self.refused_since = None
        if not was_closed:
            assert self.probe is None, "two probes at once"
            self.probe = permit
        self.running.append((admission, permit))

    def _refused(self, refusal: CircuitOpen, *, was_closed: bool) -> None:
        assert not was_closed, "refused while it was closed"
        assert 1 <= refusal.retry_after <= 60
        if self.probe is None:
            self.refused_since = self.refused_since or self.time.monotonic
            assert self.time.monotonic - self.refused_since <= 60.001, "refused for too long"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), retry_after=st.none() | st.integers(0, 600))
    def fails(self, data: st.DataObject, retry_after: int | None) -> None:
        was_closed, call = self.breaker.is_closed, self._ends(data)
        call[1].failed(retry_after)
        self.failures += was_closed
        assert self.breaker.is_closed is (was_closed and self.failures < 5)
        self._leaves(*call)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def is_answered(self, data: st.DataObject) -> None:
        call = self._ends(data)
        call[1].answered()
        self.failures, self.probe = 0, None
        assert self.breaker.is_closed
        self._leaves(*call)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.floats(0, 1.9))
    def is_cancelled(self, data: st.DataObject, seconds: float) -> None:
        was_closed, call = self.breaker.is_closed, self._ends(data)
        call[1].cut_off(seconds)
        self._leaves(*call)
        assert self.breaker.is_closed is was_closed

    @rule(seconds=st.floats(0, 120))
    def time_passes(self, seconds: float) -> None:
        self.time.passes(seconds)

    @rule(seconds=st.floats(-1e6, 1e6))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        self.time.jumps(seconds)

    @rule(seconds=st.floats(-1e4, 1e4))
    def the_monotonic_clock_is_wrong(self, seconds: float) -> None:
        self.time.monotonic += seconds
        self.refused_since = None

    @invariant()
    def whoever_waits_long_enough_is_let_through(self) -> None:
        """Never wedged: without a probe on its way, a minute is always enough."""
        if self.probe is None and not self.breaker.is_closed:
            now = self.time.monotonic
            self.time.monotonic = now + 60.001
            assert wait_of(self.breaker) is None
            self.time.monotonic = now

    def _ends(self, data: st.DataObject) -> tuple[AbstractContextManager[Permit], Permit]:
        index = data.draw(st.integers(0, len(self.running) - 1))
        return self.running.pop(index)

    def _leaves(self, admission: AbstractContextManager[Permit], permit: Permit) -> None:
        admission.__exit__(None, None, None)
        if self.probe is permit:
            self.probe = None


TestAnyStory = Breaker.TestCase
TestAnyStory.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
