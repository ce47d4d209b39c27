"""Which failures are remembered, for whom, and how long."""

from itertools import pairwise

import pytest

from ext_authz.exchange.failure_memory import FailureMemory
from ext_authz.leg import Leg
from ext_authz.reasons import Denied, Reason
from tests.doubles.movable_time import MovableTime

SECONDS = {
    Reason.POLICY_DENIED: 10,
    Reason.SCOPE_DENIED: 10,
    Reason.USER_NOT_PROVISIONED: 10,
    Reason.RESOURCE_REFUSED: 10,
    Reason.HUB_CLIENT_REFUSED: 10,
    Reason.SERVER_CLIENT_REFUSED: 10,
    Reason.ID_JAG_REFUSED: 5,
    Reason.SUBJECT_TOKEN_REFUSED: 60,
    Reason.STEP_UP_REQUIRED: 60,
}
OF_THE_TOKEN = {Reason.SUBJECT_TOKEN_REFUSED, Reason.STEP_UP_REQUIRED}


@pytest.fixture
def memory(time: MovableTime) -> FailureMemory:
    return FailureMemory(time.clock, max_entries=3)


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_is_worth_its_seconds(
    memory: FailureMemory, time: MovableTime, reason: Reason
) -> None:
    memory.remember("key", b"token", Denied(reason))
    time.passes(SECONDS.get(reason, 2) - 1)
    before = memory.recall("key", b"token")
    time.passes(1)

    assert before is not None
    assert memory.recall("key", b"token") is None
    assert len(memory) == 0


@pytest.mark.parametrize("reason", sorted(set(Reason) - OF_THE_TOKEN))
def test_a_failure_is_given_again_as_it_was(memory: FailureMemory, reason: Reason) -> None:
    memory.remember("key", b"token", Denied(reason, "a detail", retry_after=7))

    again = memory.recall("key", b"another token")

    assert again is not None
    assert (again.reason, again.detail, again.retry_after) == (reason, "a detail", 7)


def test_each_gets_a_denial_of_its_own(memory: FailureMemory) -> None:
    """One exception raised twice would gather both tracebacks."""
    memory.remember("key", b"token", Denied(Reason.POLICY_DENIED))

    assert memory.recall("key", b"token") is not memory.recall("key", b"token")


def test_one_keys_failure_is_nobody_elses(memory: FailureMemory) -> None:
    memory.remember("key", b"token", Denied(Reason.POLICY_DENIED))

    assert memory.recall("another key", b"token") is None


@pytest.mark.parametrize("reason", sorted(OF_THE_TOKEN))
def test_the_same_user_token_again_is_a_sign_in_loop(memory: FailureMemory, reason: Reason) -> None:
    memory.remember("key", b"token", Denied(reason))

    again = memory.recall("key", b"token")

    assert again is not None
    assert (again.reason, again.detail) == (Reason.SIGN_IN_LOOP, reason.value)


@pytest.mark.parametrize("reason", sorted(OF_THE_TOKEN))
def test_a_fresh_user_token_is_not_blocked_by_an_old_ones_refusal(
    memory: FailureMemory, reason: Reason
) -> None:
    memory.remember("key", b"token", Denied(reason))

    assert memory.recall("key", b"fresh token") is None
    assert memory.recall("key", b"token") is not None


@pytest.mark.parametrize(
    ("reason", "retry_after", "seconds"),
    [
        (Reason.IDP_RATE_LIMITED, 30, 30),
        (Reason.AS_UNAVAILABLE, 1, 2),
        (Reason.AS_UNAVAILABLE, 0, 2),
        (Reason.POLICY_DENIED, 3, 10),
    ],
)
def test_a_provider_may_ask_for_longer_but_not_for_less(
    memory: FailureMemory, time: MovableTime, reason: Reason, retry_after: int, seconds: int
) -> None:
    memory.remember("key", b"token", Denied(reason, retry_after=retry_after))
    time.passes(seconds - 1)
    before = memory.recall("key", b"token")
    time.passes(1)

    assert before is not None
    assert memory.recall("key", b"token") is None


def test_a_wall_clock_that_jumps_changes_nothing(memory: FailureMemory, time: MovableTime) -> None:
    memory.remember("key", b"token", Denied(Reason.POLICY_DENIED))
    time.jumps(3600)

    assert memory.recall("key", b"token") is not None


def test_success_is_the_end_of_it(memory: FailureMemory) -> None:
    memory.remember("key", b"token", Denied(Reason.POLICY_DENIED))
    memory.forget("key")
    memory.forget("key")

    assert memory.recall("key", b"token") is None


def test_the_oldest_failure_goes_first(memory: FailureMemory) -> None:
    for key in ("a", "b", "c", "a", "d"):
        memory.remember(key, b"token", Denied(Reason.POLICY_DENIED))

    kept = [key for key in ("a", "b", "c", "d") if memory.recall(key, b"token")]
    assert kept == ["a", "c", "d"]
    assert len(memory) == 3


# ---- not all at once


def test_the_failures_of_many_do_not_end_together(time: MovableTime) -> None:
    """An outage fails thousands of keys within a second; they must not all come back within one."""
    memory = FailureMemory(time.clock)
    for number in range(100):
        time.chance = number / 100
        memory.remember(str(number), b"token", Denied(Reason.POLICY_DENIED))

    left = []
    for _ in range(21):
        left.append(sum(memory.holds(str(number)) for number in range(100)))
        time.passes(0.1) if len(left) > 1 else time.passes(10)
    assert left[0] == 100
    assert left == sorted(left, reverse=True)
    assert max(before - after for before, after in pairwise(left)) <= 6
    assert left[-1] <= 5


def test_chance_never_shortens_what_a_provider_asked_for(
    memory: FailureMemory, time: MovableTime
) -> None:
    time.chance = 0.999
    memory.remember("key", b"token", Denied(Reason.IDP_RATE_LIMITED, retry_after=30))
    time.passes(35)
    before = memory.recall("key", b"token")
    time.passes(1)

    assert before is not None
    assert memory.recall("key", b"token") is None


# ---- what nobody was told


@pytest.mark.parametrize("reason", sorted(OF_THE_TOKEN))
def test_a_refusal_that_nobody_was_told_is_told_before_it_is_a_loop(
    memory: FailureMemory, reason: Reason
) -> None:
    """A 403 in the place of the 401 would leave the user without a way to sign in anew."""
    legs = (Leg(number=1, milliseconds=1.0, status=400),)
    memory.remember("key", b"token", Denied(reason, "a detail"))
    memory.keep_untold("key", legs)

    others = memory.recall("key", b"another token")
    told = [memory.recall("key", b"token") for _ in range(3)]

    assert others is None
    assert [denied and denied.reason for denied in told] == [
        reason,
        Reason.SIGN_IN_LOOP,
        Reason.SIGN_IN_LOOP,
    ]
    assert [denied and denied.legs for denied in told] == [legs, (), ()]


def test_any_other_failure_shows_its_legs_to_the_first_who_is_denied(
    memory: FailureMemory,
) -> None:
    legs = (Leg(number=1, milliseconds=1.0, status=403),)
    memory.remember("key", b"token", Denied(Reason.POLICY_DENIED))
    memory.keep_untold("key", legs)

    told = [memory.recall("key", b"token") for _ in range(2)]

    assert [(denied.reason, denied.legs) for denied in told if denied] == [
        (Reason.POLICY_DENIED, legs),
        (Reason.POLICY_DENIED, ()),
    ]


def test_there_is_nothing_to_tell_where_nothing_is_remembered(memory: FailureMemory) -> None:
    memory.keep_untold("key", ())

    assert not memory.holds("key")
