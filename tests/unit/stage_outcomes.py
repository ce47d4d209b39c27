"""What a stage made of what it was given: its product, or a denial."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from ext_authz.reasons import Denied, Reason

Given = TypeVar("Given")
Product = TypeVar("Product")


def denial(stage: Callable[[Given], object], given: Given) -> Denied:
    """The denial that `stage` must end in."""
    with pytest.raises(Denied) as caught:
        stage(given)
    return caught.value


def outcome(stage: Callable[[Given], Product], given: Given) -> Product | Reason:
    """The product, or the reason of the denial. What else is raised goes through."""
    try:
        return stage(given)
    except Denied as denied:
        return denied.reason
