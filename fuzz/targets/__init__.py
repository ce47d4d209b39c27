"""One reader of untrusted bytes each."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

NAMES: Final = sorted(
    file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")
)
CORPORA: Final = Path(__file__).parents[1] / "corpora"


def one_input_of(target: str) -> Callable[[bytes], None]:
    """What the target does with one input; imported only now, so that it can be instrumented."""
    one_input: Callable[[bytes], None] = importlib.import_module(f"{__name__}.{target}").one_input
    return one_input


def seeds_of(target: str) -> list[Path]:
    """The committed inputs of the target."""
    return sorted((CORPORA / target).iterdir())
