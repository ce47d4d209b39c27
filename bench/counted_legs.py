"""The real `AccessTokens` with providers that say yes at once, and count."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ext_authz.clock import Clock
from ext_authz.exchange.access_tokens import AccessTokens, Shared
from ext_authz.exchange.circuit_breaker import CircuitBreaker, Permit
from ext_authz.exchange.id_jag import IdJag, IdJagIssuer
from ext_authz.exchange.jwt_bearer import Grant, Redeemer
from ext_authz.exchange.legs import LEG_1, LEG_2, Legs
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.secret import Secret
from ext_authz.settings.settings import McpServer, Settings

EXCHANGE_SECONDS: Final = 10
ID_JAG_SECONDS: Final = 300


@dataclass(slots=True)
class Counted:
    """How many exchanges were made."""

    exchanges: int = 0


class _IdJags(IdJagIssuer):
    def __init__(self, counted: Counted, clock: Clock) -> None:
        self._counted = counted
        self._clock = clock

    async def obtain(self, user: VerifiedUser, server: McpServer, legs: Legs) -> IdJag:
        with legs.leg(LEG_1):
            self._counted.exchanges += 1
            return IdJag(
                token=Secret(f"id-jag-{user.subject}"),
                jti=str(self._counted.exchanges),
                scope=server.scopes,
                expires_at=int(self._clock.wall()) + ID_JAG_SECONDS,
            )


class _Redeemer(Redeemer):
    def __init__(self, lifetime: int, clock: Clock) -> None:
        self._lifetime = lifetime
        self._breaker = CircuitBreaker("counted", clock)

    @contextmanager
    def admission(self) -> Iterator[Permit]:
        yield Permit(self._breaker)

    async def redeem(self, id_jag: IdJag, server: McpServer, legs: Legs, _permit: Permit) -> Grant:
        with legs.leg(LEG_2):
            token = Secret(f"{server.resource}-{id_jag.jti}")
            return Grant(token=token, scope=id_jag.scope, lifetime=self._lifetime)


def counted_access_tokens(
    settings: Settings,
    counted: Counted,
    clock: Clock,
    *,
    lifetime: int,
    shared: Shared | None = None,
) -> AccessTokens:
    """Access tokens that live `lifetime` seconds, from all issuers of the settings."""
    return AccessTokens(
        {issuer: _IdJags(counted, clock) for issuer in settings.identity_providers},
        {issuer: _Redeemer(lifetime, clock) for issuer in settings.authorization_servers},
        clock,
        seconds=EXCHANGE_SECONDS,
        shared=shared,
    )
