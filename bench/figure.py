"""A figure: what was measured, and whether it is what we want."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Wanted(StrEnum):
    """Which side of its target a figure is to be on."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    EXACTLY = "="


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A number, and the side of it that is good."""

    wanted: Wanted
    number: float

    def is_met_by(self, value: float) -> bool:
        match self.wanted:
            case Wanted.AT_LEAST:
                return value >= self.number
            case Wanted.AT_MOST:
                return value <= self.number
            case Wanted.EXACTLY:
                return value == self.number

    def verdict(self, value: float) -> str:
        """Says "met", or by which share of the target it is missed."""
        if self.is_met_by(value):
            return "met"
        return f"missed by {abs(value - self.number) / self.number:.0%}"

    def __str__(self) -> str:
        return f"{self.wanted} {self.number:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`value` is a ratio or a count, unless `what` names a unit. Without a target it is for information."""

    name: str
    value: float
    what: str
    target: Target | None = None


def at_least(number: float) -> Target:
    return Target(wanted=Wanted.AT_LEAST, number=number)


def at_most(number: float) -> Target:
    return Target(wanted=Wanted.AT_MOST, number=number)


def exactly(number: float) -> Target:
    return Target(wanted=Wanted.EXACTLY, number=number)


def medians(rounds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Of each name the median over the rounds, which all have the same names."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
