"""A figure is met, or missed by a share of its target, on the side that its target names."""

import pytest

from bench.figure import Figure, Target, at_least, at_most, exactly, medians
from bench.report import table


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (at_least(0.8), 0.8, "met"),
        (at_least(0.8), 0.6, "missed by 25%"),
        (at_most(1.25), 1.25, "met"),
        (at_most(1.25), 2.5, "missed by 100%"),
        (exactly(2), 2, "met"),
        (exactly(2), 1, "missed by 50%"),
        (exactly(1), 3, "missed by 200%"),
    ],
)
def test_a_target_says_by_how_much_it_is_missed(target: Target, value: float, verdict: str) -> None:
    assert target.verdict(value) == verdict


def test_rounds_become_medians_by_name() -> None:
    rounds = [{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]

    assert medians(rounds) == {"a": 2.0, "b": 8.0}


def test_the_table_has_a_line_for_each_figure_with_its_target() -> None:
    met = Figure(name="hot", value=0.9, what="is met", target=at_least(0.8))
    free = Figure(name="share", value=0.1, what="has none")

    head, first, second = table([met, free]).splitlines()

    assert head.split()[:3] == ["figure", "value", "target"]
    assert first.split()[:5] == ["hot", "0.900", "≥", "0.8", "met"]
    assert second.split() == ["share", "0.100", "has", "none"]
