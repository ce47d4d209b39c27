"""How long to wait before a worker that died is started again."""

from typing import Final

FIRST_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 120.0  # without a death: it begins anew


class BackOff:
    """Half a second for the first death, and twice as long for each that follows soon."""

    def __init__(self) -> None:
        self._seconds = FIRST_SECONDS
        self._last: float | None = None

    def seconds(self, now: float) -> float:
        """How long to wait after a death at the monotonic time `now`."""
        if self._last is None or now - self._last >= QUIET_SECONDS:
            self._seconds = FIRST_SECONDS
        else:
            self._seconds = min(2 * self._seconds, LONGEST_SECONDS)
        self._last = now
        return self._seconds
