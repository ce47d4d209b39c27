"""Renews, in the background, a kept token that is in use and about to end: nobody waits for it.

Only a Check that uses the token begins it, so that nothing is minted for the idle. Meanwhile the old
token serves. What comes of it:

    renewed                   the new token takes the old one's place
    trouble at a provider     the old one serves to its end; tried again when the failure is forgotten
    anything else             somebody said no, or it is unclear: the old one is dropped at once

The audit has one record for each Check, and here is none. So the legs stand in the log, and in the
record of the first Check that gets the new token, or that is denied for want of it.
"""

import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from ext_authz.clock import Clock
from ext_authz.exchange.failure_memory import FailureMemory
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.leg import Leg
from ext_authz.log import Logger, logger, place_of
from ext_authz.reasons import Denied, Reason
from ext_authz.settings.settings import McpServer

MAX_SECONDS: Final = 60.0
SHARE: Final = 0.1  # of a token's kept life
MAX_UNSHOWN: Final = 10_000
PROVIDER_TROUBLE: Final = frozenset(
    {
        Reason.IDP_UNAVAILABLE,
        Reason.IDP_RATE_LIMITED,
        Reason.IDP_ANSWER_INVALID,
        Reason.AS_UNAVAILABLE,
        Reason.AS_RATE_LIMITED,
        Reason.AS_METADATA_INVALID,
        Reason.AS_ANSWER_INVALID,
        Reason.DEADLINE_EXCEEDED,
    }
)
_log: Final[Logger] = logger("exchange")


class Exchanged(Protocol):
    """What an exchange gives, as far as it is of interest here."""

    @property
    def id_jag_jti(self) -> str: ...

    @property
    def legs(self) -> tuple[Leg, ...]: ...


T = TypeVar("T", bound=Exchanged)


def ending_seconds(key: str, kept_seconds: float) -> float:
    """How long before its end the token of `key`, kept for so long in all, is to be renewed.

    A minute, or a tenth of its life where that is shorter; up to half less, by its key, so that tokens
    that were issued together are not renewed together.
    """
    share = zlib.crc32(key.encode()) / 2**33
    return min(MAX_SECONDS, kept_seconds * SHARE) * (1 - share)


class UnshownLegs:
    """The legs of tokens that were renewed ahead, until a Check shows them."""

    def __init__(self, max_entries: int = MAX_UNSHOWN) -> None:
        self._max_entries = max_entries
        self._legs: OrderedDict[str, tuple[str, tuple[Leg, ...]]] = OrderedDict()

    def put(self, key: str, token: Exchanged) -> None:
        """Keeps those of `token`, the newest of `key`."""
        self._legs[key] = (token.id_jag_jti, token.legs)
        while len(self._legs) > self._max_entries:
            self._legs.popitem(last=False)

    def take(self, key: str, id_jag_jti: str) -> tuple[Leg, ...]:
        """Those of the token that was issued for this ID-JAG: once, and then no more."""
        if not self._legs:
            return ()  # the usual case
        jti, legs = self._legs.pop(key, ("", ()))
        return legs if jti == id_jag_jti else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal(Generic[T]):
    """One exchange that is made ahead: begun by the Check of `user` for `server`, whose token has `key`."""

    key: str
    user: VerifiedUser
    server: McpServer
    drop: Callable[[str], Awaitable[None]]
    failures: FailureMemory
    unshown: UnshownLegs
    clock: Clock

    async def renew(self, exchange: Callable[[], Awaitable[T]]) -> T:
        """What `exchange` gives, and raises, for whoever has come to wait for it after all.

        `exchange` keeps its token, and remembers its failure, by itself.
        """
        started = self.clock.monotonic()
        try:
            token = await exchange()
        except Denied as denied:
            self.failures.keep_untold(self.key, denied.legs)
            if denied.reason not in PROVIDER_TROUBLE:
                await self.drop(self.key)
            self._tell("token_not_renewed", started, denied.legs, reason=denied.reason.value)
            raise
        except Exception as defect:
            await self._stop_after(defect)
            raise
        self.unshown.put(self.key, token)
        self._tell("token_renewed", started, token.legs)
        return token

    async def _stop_after(self, defect: Exception) -> None:
        """Remembered like any failure, or each further Check would repeat it."""
        kind = type(defect).__name__
        _log.error("renewal_failed", exception=kind, at=place_of(defect))
        self.failures.remember(self.key, self.user.token.digest(), Denied(Reason.INTERNAL, kind))
        await self.drop(self.key)

    def _tell(self, event: str, started: float, legs: tuple[Leg, ...], **more: str) -> None:
        """One line where somebody was asked; the user's name stands in the audit alone."""
        if legs:
            _log.info(
                event,
                issuer=self.user.issuer,
                server=self.server.name,
                milliseconds=round((self.clock.monotonic() - started) * 1000, 3),
                legs=[_told(leg) for leg in legs],
                **more,
            )


def _told(leg: Leg) -> dict[str, object]:
    return {"leg": leg.number, "status": leg.status, "error": leg.error, "jti": leg.jti}
