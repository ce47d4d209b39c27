"""The chart is well-formed SVG and names what was measured."""

import xml.etree.ElementTree as ET

from bench.chart import chart
from bench.figure import Figure, at_most
from bench.lifetimes import PROVIDERS
from bench.month import by_provider


def _figures() -> list[Figure]:
    plans = {"minimum": 1000.0, "ours": 1.0, "ours_x2": 1.9, "raw_key": 1.4, "raw_key_x2": 2.7}
    return [
        Figure(name="hot_p50 <&>", value=1.5, what="", target=at_most(1.25)),
        *(
            Figure(name=f"month_{each.provider}_{plan}", value=value, what="")
            for each in PROVIDERS
            for plan, value in plans.items()
        ),
    ]


def test_the_chart_is_xml_with_a_bar_for_each_figure_and_plan() -> None:
    root = ET.fromstring(chart(_figures()))
    said = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))

    assert "hot_p50 <&>" in said
    assert "entra: raw token as key" in said
    assert len(bars) == 1 + 4 * len(PROVIDERS)  # nobody shares a cache in these figures


def test_exchanges_are_a_plan_times_the_minimum() -> None:
    values = {figure.name: figure.value for figure in _figures()}

    assert by_provider(values, "ours_x2")["okta"] == 1900.0
    assert by_provider(values, "ours_x2_shared") == {}
