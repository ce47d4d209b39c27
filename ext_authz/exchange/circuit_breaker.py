"""Stops asking an endpoint that is down, and asks again with one call at a time.

    closed ──five failures in a row──▶ open for 5 s ──▶ half-open: one probe ──it is answered──▶ closed
                                         ▲                    │
                                         └── twice as long ◀──┘ it fails

A failure is a call without a usable answer: transport, timeout, 5xx. Any other answer shows that the
endpoint lives, a refusal and a 429 included. A 429 does not hold for the endpoint: see
`failure_memory`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ext_authz.clock import Clock
from ext_authz.log import Logger, logger

FAILURES: Final = 5  # in a row
OPEN_SECONDS: Final = 5.0  # doubled by each probe that fails
MAX_OPEN_SECONDS: Final = 60.0
SPREAD: Final = 0.2  # by chance shorter by up to so much: replicas do not probe together
PROBING_SECONDS: Final = 1  # what callers are told to wait while a probe is on its way
CUT_OFF_SECONDS: Final = 2.0  # who was cut off sooner may have come late to its deadline
_log: Final[Logger] = logger("exchange")


class CircuitOpen(Exception):
    """The endpoint is not asked now; it may be in `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("not asked: it has failed repeatedly")
        self.retry_after = retry_after


class Permit:
    """The right to one call, whose holder tells how it went. Untold, the call says nothing."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker

    def answered(self) -> None:
        """The endpoint gave an answer, whatever it said."""
        self._breaker.answered()

    def failed(self, retry_after: int | None = None) -> None:
        """It gave none, or a 5xx, perhaps with a `Retry-After` in seconds."""
        self._breaker.failed(self, retry_after)

    def cut_off(self, seconds: float) -> None:
        """Nobody waited any longer, after so many seconds: a failure only where they were many."""
        if seconds >= CUT_OFF_SECONDS:
            self.failed()


class CircuitBreaker:
    """The state of one endpoint, `name` in the log. All its times are monotonic."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._next_seconds = OPEN_SECONDS
        self._open_seconds = 0.0
        self._opened_at = 0.0
        self._probe: Permit | None = None
        self.is_closed = True

    @contextmanager
    def admitted(self) -> Iterator[Permit]:
        """The right to one call, to be made in the block; raises `CircuitOpen`.

        However the block ends, cancelled too, the next probe is free again.
        """
        permit = self._admit()
        try:
            yield permit
        finally:
            if self._probe is permit:
                self._probe = None

    def answered(self) -> None:
        """An answer closes it: of a call too that was begun before it opened."""
        if not self.is_closed:
            _log.info("circuit_closed", endpoint=self._name)
        self._failures, self._next_seconds = 0, OPEN_SECONDS
        self._probe = None
        self.is_closed = True

    def failed(self, permit: Permit, retry_after: int | None) -> None:
        """Counts while it is closed; once it is not, only the probe's failure says anything new."""
        if self.is_closed:
            self._failures += 1
        if permit is self._probe or (self.is_closed and self._failures >= FAILURES):
            self._open(retry_after or 0)

    def _admit(self) -> Permit:
        permit = Permit(self)
        if self.is_closed:
            return permit
        elapsed = self._clock.monotonic() - self._opened_at
        if 0 <= elapsed < self._open_seconds:  # below 0: the clock was wrong, and nothing is known
            raise CircuitOpen(math.ceil(self._open_seconds - elapsed))
        if self._probe is not None:
            raise CircuitOpen(PROBING_SECONDS)
        self._probe = permit
        return permit

    def _open(self, retry_after: int) -> None:
        seconds = self._next_seconds * (1 - SPREAD * self._clock.chance())
        self._open_seconds = max(seconds, min(retry_after, MAX_OPEN_SECONDS))
        self._next_seconds = min(2 * self._next_seconds, MAX_OPEN_SECONDS)
        self._opened_at = self._clock.monotonic()
        self._probe = None
        if self.is_closed:
            _log.warning("circuit_opened", endpoint=self._name, seconds=self._open_seconds)
        self.is_closed = False
