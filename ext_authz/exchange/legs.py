"""The legs of one exchange, noted while they are made: one that fails, or is cut off, is noted too."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ext_authz.clock import Clock
from ext_authz.leg import Leg

LEG_1: Final = 1
LEG_2: Final = 2


@dataclass(slots=True, kw_only=True)
class LegNotes:
    """What is known of a leg so far: each part writes down its own. The fields are those of `Leg`.

    `lifetime` is in seconds from now: what leg 2's answer has instead of an `expires_at`.
    """

    status: int | None = None
    error: str | None = None
    scope: tuple[str, ...] = ()
    jti: str | None = None
    expires_at: int | None = None
    lifetime: int | None = None
    id_jag_digest: bytes | None = None


class Legs:
    """Times the legs of an exchange and keeps them in their order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: list[Leg] = []

    @property
    def made(self) -> tuple[Leg, ...]:
        """The legs that are over, however they ended."""
        return tuple(self._made)

    @contextmanager
    def leg(self, number: int) -> Iterator[LegNotes]:
        """A leg, from here to the end of the block."""
        notes, started = LegNotes(), self._clock.monotonic()
        try:
            yield notes
        finally:
            self._made.append(self._leg(number, notes, started))

    def _leg(self, number: int, notes: LegNotes, started: float) -> Leg:
        return Leg(
            number=number,
            milliseconds=(self._clock.monotonic() - started) * 1000,
            status=notes.status,
            error=notes.error,
            scope=notes.scope,
            jti=notes.jti,
            expires_at=self._expires_at(notes),
            id_jag_digest=notes.id_jag_digest,
        )

    def _expires_at(self, notes: LegNotes) -> int | None:
        if notes.lifetime is None:
            return notes.expires_at
        return int(self._clock.wall()) + notes.lifetime
