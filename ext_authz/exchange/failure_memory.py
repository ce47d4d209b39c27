"""Failures remembered briefly, so that a provider that said no is not asked again at once.

What the identity provider said of a *user token* is remembered for that token alone: the next one
may be better. Everything else holds for the user's session at that server.

That includes 429, however it was meant: an answer does not say whether it is our client's limit or this
user's quota that is used up, and one user's quota must not become everybody's outage. What being wrong
about it costs is one refused call a session and `Retry-After`.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ext_authz.clock import Clock
from ext_authz.leg import Leg
from ext_authz.reasons import Denied, Reason

MAX_ENTRIES: Final = 10_000
DEFAULT_SECONDS: Final = 2
SPREAD: Final = 0.2  # of its seconds a failure is remembered for longer, at most, by chance
SECONDS: Final = MappingProxyType(
    {
        Reason.POLICY_DENIED: 10,
        Reason.SCOPE_DENIED: 10,
        Reason.USER_NOT_PROVISIONED: 10,
        Reason.RESOURCE_REFUSED: 10,
        Reason.HUB_CLIENT_REFUSED: 10,
        Reason.SERVER_CLIENT_REFUSED: 10,
        Reason.ID_JAG_REFUSED: 5,
        Reason.SUBJECT_TOKEN_REFUSED: 60,
        Reason.STEP_UP_REQUIRED: 60,
    }
)
OF_THE_TOKEN: Final = frozenset({Reason.SUBJECT_TOKEN_REFUSED, Reason.STEP_UP_REQUIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """`is_told`: whether the user was denied for it. If not, `legs` are those that it came from."""

    reason: Reason
    detail: str
    retry_after: int | None
    token_digest: bytes
    until: float
    is_told: bool = True
    legs: tuple[Leg, ...] = ()


class FailureMemory:
    """The last failure of each key, for the seconds that its reason is worth."""

    def __init__(self, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._failures: OrderedDict[str, _Failure] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def recall(self, key: str, token_digest: bytes) -> Denied | None:
        """The denial that still stands for `key` and this user token.

        The same token again after the identity provider refused it is a sign-in loop: 403 ends it
        where another 401 would open another browser window.
        """
        if not self.holds(key):
            return None
        failure = self._failures[key]
        if failure.reason in OF_THE_TOKEN and failure.token_digest != token_digest:
            return None
        if not failure.is_told:
            return self._tell(key, failure)
        if failure.reason in OF_THE_TOKEN:
            return Denied(Reason.SIGN_IN_LOOP, failure.reason.value)
        return Denied(failure.reason, failure.detail, retry_after=failure.retry_after)

    def holds(self, key: str) -> bool:
        """Whether a failure of `key` is still remembered, whoever's token it was of."""
        failure = self._failures.get(key)
        if failure is None:
            return False
        if self._clock.monotonic() >= failure.until:
            del self._failures[key]
            return False
        return True

    def remember(self, key: str, token_digest: bytes, denied: Denied) -> None:
        """Keeps `denied`; a provider's own `Retry-After` counts where it asks for longer.

        For a little longer than that, by chance, so that the failures of many do not end together.
        """
        seconds = max(SECONDS.get(denied.reason, DEFAULT_SECONDS), denied.retry_after or 0)
        self._failures[key] = _Failure(
            reason=denied.reason,
            detail=denied.detail,
            retry_after=denied.retry_after,
            token_digest=token_digest,
            until=self._clock.monotonic() + seconds * (1 + SPREAD * self._clock.chance()),
        )
        self._failures.move_to_end(key)
        while len(self._failures) > self._max_entries:
            self._failures.popitem(last=False)

    def keep_untold(self, key: str, legs: tuple[Leg, ...]) -> None:
        """The failure of `key` came while nobody waited: whoever is denied for it first is told all.

        Told what it was, for a sign-in loop is one only after a 401; and by which `legs`.
        """
        failure = self._failures.get(key)
        if failure is not None:
            self._failures[key] = replace(failure, is_told=False, legs=legs)

    def forget(self, key: str) -> None:
        """Drops what is known of `key`: it has succeeded."""
        self._failures.pop(key, None)

    def _tell(self, key: str, failure: _Failure) -> Denied:
        self._failures[key] = replace(failure, is_told=True, legs=())
        return Denied(
            failure.reason, failure.detail, retry_after=failure.retry_after, legs=failure.legs
        )
