"""The chart for README: each figure with a target beside it, and what a working day costs in exchanges."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figure import Figure, Target
from bench.month import by_provider
from bench.svg import bar, drawing, mark, text

CHART: Final = Path(__file__).parent / "chart.svg"
WIDTH: Final = 860
LEFT: Final = 270  # where bars begin
BAR: Final = 400  # the longest
ROW: Final = 24
THICK: Final = 14
GAP: Final = 30
MOST: Final = 2.0  # times the target: what is longer is cut there, and its number says how long
BASELINE: Final = 11
PLANS: Final = {
    "ours": ("plain", "one replica"),
    "ours_x2": ("plain", "two replicas"),
    "ours_x2_shared": ("plain", "two replicas, shared cache"),
    "raw_key": ("other", "raw token as key"),
    "raw_key_x2": ("other", "raw token as key, two replicas"),
}


def write_chart(figures: Sequence[Figure], path: Path = CHART) -> None:
    """Writes the chart of a whole run."""
    path.write_text(chart(figures))


def chart(figures: Sequence[Figure]) -> str:
    """The chart as SVG."""
    parts: list[str] = []
    y = _targets(parts, figures, 20)
    y = _month(parts, {figure.name: figure.value for figure in figures}, y + GAP)
    return drawing(WIDTH, y, "Measured figures against their targets", parts)


def _targets(parts: list[str], figures: Sequence[Figure], y: float) -> float:
    """A bar for each figure with a target, in targets: they all have theirs at the same place."""
    parts.append(text(10, y, "Measured against the target (the line)", style="head"))
    for figure in figures:
        if figure.target is not None and not figure.name.startswith("month_"):
            y += ROW
            _against(parts, figure, figure.target, y)
    return y + ROW


def _against(parts: list[str], figure: Figure, target: Target, y: float) -> None:
    share = min(figure.value / target.number, MOST)
    style = "good" if target.is_met_by(figure.value) else "bad"
    parts += [
        text(LEFT - 10, y + BASELINE, figure.name, anchor="end"),
        bar(LEFT, y, share / MOST * BAR, THICK, style),
        mark(LEFT + BAR / MOST, y - 3, THICK + 6),
        text(LEFT + BAR + 10, y + BASELINE, f"{figure.value:.2f}"),
        text(LEFT + BAR + 60, y + BASELINE, f"target {target}", style="dim"),
    ]


def _month(parts: list[str], values: Mapping[str, float], y: float) -> float:
    """For each provider a bar for each plan, and the minimum as a line."""
    plans = {plan: by_provider(values, plan) for plan in PLANS}
    head = "Exchanges a working day for 1,000 users of a server (the line: the least possible)"
    parts.append(text(10, y, head, style="head"))
    providers = list(plans["ours"])
    for provider in providers:
        least = values[f"month_{provider}_minimum"]
        longest = max(each[provider] for each in plans.values() if each)
        y += ROW / 2
        for plan, exchanges in plans.items():
            if exchanges:
                y += ROW - 4
                _plan(parts, plan, provider, exchanges[provider], longest, y)
                parts.append(mark(LEFT + least / longest * BAR, y - 2, THICK + 4))
    return y + ROW


def _plan(
    parts: list[str], plan: str, provider: str, exchanges: float, longest: float, y: float
) -> None:
    style, name = PLANS[plan]
    parts += [
        text(LEFT - 10, y + BASELINE, f"{provider}: {name}", anchor="end"),
        bar(LEFT, y, exchanges / longest * BAR, THICK, style),
        text(LEFT + BAR + 10, y + BASELINE, f"{exchanges:,.0f}"),
    ]
