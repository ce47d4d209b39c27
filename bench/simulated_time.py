"""A month in seconds: time that moves when it is told to."""

from typing import Final

from ext_authz.clock import Clock

_EPOCH: Final = 1_795_000_000.0


class SimulatedTime:
    """`now` is in seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(wall=lambda: _EPOCH + self.now, monotonic=lambda: self.now)
