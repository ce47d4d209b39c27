"""Leg 2: the ID-JAG becomes an access token at the MCP server's AS (RFC 7523 section 2.1)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ext_authz.exchange.circuit_breaker import Permit
from ext_authz.exchange.id_jag import IdJag
from ext_authz.exchange.legs import LEG_2, LegNotes, Legs
from ext_authz.exchange.refusals import FAULTS, leg_2_denial
from ext_authz.exchange.token_answer import lifetime_of, scope_of, token_of, token_type_of
from ext_authz.exchange.token_endpoint import AnswerInvalid, TokenEndpoint
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import McpServer

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEFAULT_LIFETIME_SECONDS: Final = (
    60  # where the AS does not say: short, so that the IdP stays in charge
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What leg 2 returned. `lifetime` is in seconds, from now."""

    token: Secret
    scope: tuple[str, ...]
    lifetime: int


class Redeemer:
    """Redeems ID-JAGs at one authorization server."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint

    @contextmanager
    def admission(self) -> Iterator[Permit]:
        """The right to one `redeem` in the block: to be had before an ID-JAG is obtained for it.

        Raises `Denied` where the authorization server is not asked now.
        """
        try:
            with self._endpoint.admission() as permit:
                yield permit
        except FAULTS as fault:
            raise leg_2_denial(fault) from None

    async def redeem(self, id_jag: IdJag, server: McpServer, legs: Legs, permit: Permit) -> Grant:
        """The grant for `id_jag`, which is spent thereby, noted as one of `legs`; raises `Denied`."""
        try:
            with legs.leg(LEG_2) as notes:
                return await self._redeem(id_jag, server, notes, permit)
        except FAULTS as fault:
            raise leg_2_denial(fault) from None

    async def _redeem(
        self, id_jag: IdJag, server: McpServer, notes: LegNotes, permit: Permit
    ) -> Grant:
        answer = await self._endpoint.post(_request(id_jag, server), notes, permit)
        grant = _read(answer, id_jag, server)
        if id_jag.scope and not grant.scope:
            raise Denied(Reason.SCOPE_DENIED, "no requested scope was granted at leg 2")
        notes.scope, notes.lifetime = grant.scope, grant.lifetime
        return grant


def _request(id_jag: IdJag, server: McpServer) -> dict[str, str]:
    """Leg 2 asks for the scope that leg 1 granted: wider is refused by some, narrower by others."""
    form = {
        "grant_type": JWT_BEARER,
        "assertion": id_jag.token.reveal(),
        "resource": server.resource,
    }
    return form | ({"scope": " ".join(id_jag.scope)} if id_jag.scope else {})


def _read(answer: Mapping[str, object], id_jag: IdJag, server: McpServer) -> Grant:
    """RFC 6749 section 5.1. A refresh token is never looked at."""
    if token_type_of(answer) != "bearer":
        raise AnswerInvalid("token_type is not Bearer")
    resource = answer.get("resource", server.resource)
    if resource not in (server.resource, [server.resource]):
        raise AnswerInvalid("resource is not the requested one")
    return Grant(
        token=token_of(answer),
        scope=scope_of(answer, id_jag.scope),
        lifetime=lifetime_of(answer, DEFAULT_LIFETIME_SECONDS),
    )
