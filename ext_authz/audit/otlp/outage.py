"""Alarms that are not repeated: one for each kind of fault while something fails, and one when it ends."""

from typing import Final

from ext_authz.log import Logger, logger

_log: Final[Logger] = logger("audit")


class Outage:
    """Whether something fails now. `begun` and `over` are the events that say so in the log."""

    def __init__(self, begun: str, over: str) -> None:
        self._begun = begun
        self._over = over
        self._faults: set[str | None] = set()  # of this outage; of ours, and few

    def note(self, fault: str | None, **more: object) -> None:
        """It fails by `fault`."""
        if fault not in self._faults:
            self._faults.add(fault)
            _log.error(self._begun, fault=fault, **more)

    def end(self) -> None:
        """It works."""
        if self._faults:
            self._faults.clear()
            _log.warning(self._over)
