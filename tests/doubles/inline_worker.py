"""The audit's worker without its thread, for loops whose time does not pass while a thread works."""

from collections.abc import Callable
from typing import TypeVar

from ext_authz.audit.worker import Worker

Result = TypeVar("Result")


class InlineWorker(Worker):
    """Does at once what it is given."""

    def __init__(self) -> None:
        """Starts nothing."""

    async def run(self, function: Callable[[], Result]) -> Result:
        return function()

    def stop(self) -> None:
        """Has nothing to stop."""
