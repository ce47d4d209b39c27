"""Counts the ID-JAGs that an identity provider issued, against the quota that it grants.

Providers meter them for each user and each client at an authorization server. Counted here is what this
process was given in the last so many days, and nothing is denied for it: only the provider knows the
true count. The count is kept in memory; it begins anew with the process, and each replica has its own.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias

from ext_authz.clock import Clock
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.log import Logger, logger
from ext_authz.settings.settings import McpServer, Quota

MAX_USERS: Final = 100_000  # with an authorization server each; the least recently counted go first
NEARLY: Final = 0.8  # of the quota
_DAY_SECONDS: Final = 24 * 3600
_STEPS: Final = 30  # of the window: what leaves it leaves with its step, up to a thirtieth too late
_Key: TypeAlias = tuple[str, str, str]
_log: Final[Logger] = logger("exchange")


class _Window:
    """The issuances of one user in the last `_STEPS` steps, and in the one that runs."""

    __slots__ = ("_counts", "_step", "warned_of")

    def __init__(self, step: int) -> None:
        self._counts = array("I", bytes(4 * (_STEPS + 1)))
        self._step = step
        self.warned_of = 0.0  # the share of the quota

    def used(self, step: int) -> int:
        """How many there were up to `step`. A clock that was set back makes nothing undone."""
        for passed in range(self._step + 1, min(step, self._step + _STEPS + 1) + 1):
            self._counts[passed % len(self._counts)] = 0
        self._step = max(step, self._step)
        return sum(self._counts)

    def add(self) -> None:
        """One more, now."""
        self._counts[self._step % len(self._counts)] += 1


class Issuances:
    """The count for one identity provider. `name_of` gives the log a user's name that is no name.

    To be read by whoever exports figures: `issued` in all, and how often a user came near the end
    of the quota (`nearly_used`) and to it (`used_up`).
    """

    def __init__(
        self,
        quota: Quota,
        clock: Clock,
        name_of: Callable[[str, str], str],
        max_users: int = MAX_USERS,
    ) -> None:
        self.quota = quota
        self._clock = clock
        self._name_of = name_of
        self._max_users = max_users
        self._windows: OrderedDict[_Key, _Window] = OrderedDict()
        self.issued = 0
        self.nearly_used = 0
        self.used_up = 0

    def __len__(self) -> int:
        return len(self._windows)

    def used(self, user: VerifiedUser, server: McpServer) -> int:
        """How many were issued for `user` at the authorization server of `server` in the window."""
        window = self._windows.get(_key(user, server))
        return window.used(self._step()) if window is not None else 0

    def count(self, user: VerifiedUser, server: McpServer) -> None:
        """One was issued. Warns once when the quota is nearly used, and once when it is used up."""
        self.issued += 1
        window, step = self._window(_key(user, server)), self._step()
        window.used(step)
        window.add()
        used = window.used(step)
        share = used / self.quota.exchanges
        if share < NEARLY:
            window.warned_of = 0.0
        elif share >= 1 and window.warned_of < 1:
            window.warned_of = 1.0
            self.used_up += 1
            self._warn("quota_used_up", user, server, used)
        elif share < 1 and window.warned_of < NEARLY:
            window.warned_of = NEARLY
            self.nearly_used += 1
            self._warn("quota_nearly_used", user, server, used)

    def _window(self, key: _Key) -> _Window:
        window = self._windows.get(key) or _Window(self._step())
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > self._max_users:
            self._windows.popitem(last=False)
        return window

    def _step(self) -> int:
        """Where the wall clock stands, for the provider's months are counted by theirs."""
        return int(self._clock.wall() * _STEPS / (self.quota.days * _DAY_SECONDS))

    def _warn(self, event: str, user: VerifiedUser, server: McpServer, used: int) -> None:
        _log.warning(
            event,
            issuer=user.issuer,
            authorization_server=server.authorization_server.issuer,
            server=server.name,
            user=self._name_of(user.issuer, user.subject),
            used=used,
            quota=self.quota.exchanges,
            days=self.quota.days,
        )


def _key(user: VerifiedUser, server: McpServer) -> _Key:
    return user.subject, server.authorization_server.issuer, server.authorization_server.client.id
