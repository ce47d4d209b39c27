"""The decisions that wait for their outcome, the one that is due first at the front."""

from collections import OrderedDict
from typing import Final

MAX_PENDING: Final = 100_000  # some 20 MB


class Pending:
    """Decision ids, each with the monotonic time at which its outcome is overdue.

    All wait equally long, so the order of their last sign of life is the order of their due times.
    Beyond `most` the first are let go, and counted.
    """

    def __init__(self, *, seconds: float, most: int = MAX_PENDING) -> None:
        self._due: OrderedDict[str, float] = OrderedDict()
        self._seconds = seconds
        self._most = most
        self.let_go = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, decision_id: str) -> bool:
        return decision_id in self._due

    def expect(self, decision_id: str, now: float) -> None:
        """Has it wait from `now` on."""
        self._due[decision_id] = now + self._seconds
        if len(self._due) > self._most:
            self._due.popitem(last=False)
            self.let_go += 1

    def renew(self, decision_id: str, now: float) -> None:
        """The call goes on: it has its whole time again."""
        if decision_id in self._due:
            self._due[decision_id] = now + self._seconds
            self._due.move_to_end(decision_id)

    def close(self, decision_id: str) -> bool:
        """It waits no longer; says whether it did."""
        return self._due.pop(decision_id, None) is not None

    def overdue(self, now: float) -> str | None:
        """The one that has waited longest, if its time is over."""
        first = next(iter(self._due.items()), None)
        return first[0] if first is not None and first[1] <= now else None
