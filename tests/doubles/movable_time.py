"""Time that passes when a test says so."""

from typing import Final

from ext_authz.clock import Clock

START: Final = 1_795_000_000.0  # 2026-11-18


class MovableTime:
    """Both of a `Clock`'s times, standing still until they are moved. Nothing is left to chance."""

    def __init__(self, wall: float = START) -> None:
        self.wall = wall
        self.monotonic = 5_000.0
        self.chance = 0.0
        self.clock = Clock(
            wall=lambda: self.wall, monotonic=lambda: self.monotonic, chance=lambda: self.chance
        )

    @property
    def now(self) -> int:
        """The wall clock in whole seconds, as tokens have it."""
        return int(self.wall)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def jumps(self, seconds: float) -> None:
        """Somebody set the wall clock; nothing has become older by that."""
        self.wall += seconds
