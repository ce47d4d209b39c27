"""The figures of a run: as a table for people, as JSON for programs."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figure import Figure

RESULTS: Final = Path(__file__).parent / "results.json"


def table(figures: Sequence[Figure]) -> str:
    """One line for each figure: name, value, target, met or by how much missed, what it is."""
    rows = [("figure", "value", "target", "", "what it is"), *map(_row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {target:<{widths[2]}}  {met:<{widths[3]}}  {what}"
        for name, value, target, met, what in rows
    )


def write_results(figures: Sequence[Figure], path: Path = RESULTS) -> None:
    """Writes them with what they were measured on."""
    document = {
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "figures": {figure.name: _fields(figure) for figure in figures},
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _row(figure: Figure) -> tuple[str, str, str, str, str]:
    target, met = "", ""
    if figure.target is not None:
        target, met = str(figure.target), figure.target.verdict(figure.value)
    return figure.name, f"{figure.value:,.3f}", target, met, figure.what


def _fields(figure: Figure) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"value": round(figure.value, 4), "what": figure.what}
    if figure.target is not None:
        fields["target"] = str(figure.target)
        fields["met"] = figure.target.is_met_by(figure.value)
    return fields
