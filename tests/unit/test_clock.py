"""The machine's time, unless another is given."""

import time

from ext_authz.clock import Clock


def test_a_clock_reads_the_machines_time() -> None:
    clock = Clock()

    assert abs(clock.wall() - time.time()) < 5
    assert abs(clock.monotonic() - time.monotonic()) < 5


def test_chance_is_a_part_of_one() -> None:
    chances = [Clock().chance() for _ in range(100)]

    assert all(0 <= chance < 1 for chance in chances)
    assert len(set(chances)) > 90


def test_a_clock_reads_the_time_it_is_given() -> None:
    clock = Clock(wall=lambda: 1.0, monotonic=lambda: 2.0)

    assert (clock.wall(), clock.monotonic()) == (1.0, 2.0)
