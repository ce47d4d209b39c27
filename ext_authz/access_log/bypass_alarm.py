"""The alarm for calls that reached an MCP server although no decision of ours allowed them."""

from typing import Final

from ext_authz.access_log.entry import Entry
from ext_authz.clock import Clock
from ext_authz.log import Logger, logger

QUIET_SECONDS: Final = 60
_log: Final[Logger] = logger("access_log")


class BypassAlarm:
    """One log line a minute at most, and none is left out of its count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._untold = 0
        self._last: Entry | None = None
        self._quiet_until = clock.monotonic()

    def note(self, entry: Entry) -> None:
        """Counts `entry`, and tells of it now if a minute has passed since the last line."""
        self._untold += 1
        self._last = entry
        self.tell()

    def tell(self) -> None:
        """Logs what has not been told yet; names route and cluster of the last, which the operator named."""
        if self._last is None or self._clock.monotonic() < self._quiet_until:
            return
        outcome = self._last.outcome
        _log.error(
            "call_without_decision",
            entries=self._untold,
            route=outcome.route,
            upstream_cluster=outcome.upstream_cluster,
            request_id=outcome.request_id,
        )
        self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
        self._untold, self._last = 0, None
