"""The simulated month: the least possible, and what a raw token as key costs beside it."""

from pathlib import Path

import pytest

from bench import month, replicas, working_days
from bench.lifetimes import Lifetimes
from ext_authz.demo.world import World

SHORT = Lifetimes(provider="short", user_token=120, access_token=600)


@pytest.mark.parametrize(
    ("calls", "exchanges"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 10.0, 99.0], 1),
        ([0.0, 100.0], 2),  # a stretch ends before its last second
        (
            [0.0, 99.0, 150.0, 199.0, 260.0],
            3,
        ),  # the next begins with a call, not when the last ended
    ],
)
def test_the_minimum_is_one_exchange_for_each_stretch_with_calls(
    calls: list[float], exchanges: int
) -> None:
    assert month.minimum(calls, 100.0) == exchanges


def test_the_kept_life_is_what_the_service_keeps() -> None:
    assert replicas.kept_life(SHORT) == 570
    assert replicas.kept_life(Lifetimes(provider="long", user_token=1, access_token=86_400)) == 3600
    assert replicas.kept_life(Lifetimes(provider="brief", user_token=1, access_token=100)) == 90


def test_days_are_the_same_for_the_same_seed_and_in_order() -> None:
    days = working_days.days(7)

    assert days == working_days.days(7)
    assert days != working_days.days(8)
    assert len(days) == working_days.DAYS
    assert all(day == sorted(day) and day for day in days)


async def test_ours_needs_the_minimum_and_a_raw_key_an_exchange_for_each_user_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(month, "PROVIDERS", (SHORT,))
    monkeypatch.setattr(month, "USERS", 1)
    monkeypatch.setattr(month, "days", lambda _: [[0.0, 100.0, 200.0, 300.0, 569.0, 570.0]])

    with World.in_thread() as world:
        figures = await month.measure(world, tmp_path)
    values = {figure.name: figure.value for figure in figures}

    assert values["month_short_ours"] == 1.0  # of two: at 0, and when the token is too old, at 570
    assert values["month_short_raw_key"] == 3 / 2  # user tokens of 0, 200, 569
