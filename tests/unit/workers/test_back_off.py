"""How long a worker that died is away."""

from ext_authz.workers.back_off import FIRST_SECONDS, LONGEST_SECONDS, QUIET_SECONDS, BackOff


def test_each_death_that_follows_soon_doubles_the_wait_up_to_a_limit() -> None:
    back_off = BackOff()
    waits = [back_off.seconds(float(now)) for now in range(10)]

    assert waits[:4] == [0.5, 1, 2, 4]
    assert waits[-1] == LONGEST_SECONDS
    assert waits == sorted(waits)


def test_after_a_quiet_time_it_begins_anew() -> None:
    back_off = BackOff()
    for now in range(5):
        back_off.seconds(float(now))

    assert back_off.seconds(4 + QUIET_SECONDS) == FIRST_SECONDS
    assert back_off.seconds(5 + QUIET_SECONDS) == 2 * FIRST_SECONDS
