"""Leg 1: the user token becomes an ID-JAG at the identity provider (RFC 8693).

draft-ietf-oauth-identity-assertion-authz-grant sections 4.3 and 3.1. The ID-JAG is single-use and
never kept; before it is redeemed we check that it is for this server, this resource and our client
there, because what the AS would say of a mix-up is only `invalid_grant`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn

from ext_authz.clock import Clock
from ext_authz.exchange.circuit_breaker import Permit
from ext_authz.exchange.issuances import Issuances
from ext_authz.exchange.legs import LEG_1, LegNotes, Legs
from ext_authz.exchange.refusals import FAULTS, leg_1_denial
from ext_authz.exchange.token_answer import scope_of, token_of, token_type_of
from ext_authz.exchange.token_endpoint import AnswerInvalid, TokenEndpoint
from ext_authz.identity.compact_jws import NotCompactJws, take_apart
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import McpServer, SubjectToken

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"
SUBJECT_TOKEN_TYPES: Final = MappingProxyType(
    {
        SubjectToken.ID_TOKEN: "urn:ietf:params:oauth:token-type:id_token",
        SubjectToken.ACCESS_TOKEN: "urn:ietf:params:oauth:token-type:access_token",
    }
)
_TYP: Final = "oauth-id-jag+jwt"
_TOKEN_TYPES: Final = {"n_a", "bearer"}  # N_A by the draft; one provider's documentation has Bearer
_MAX_JTI_LENGTH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class IdJag:
    """An ID-JAG that passed our checks. `jti` is its name in the audit, `scope` what it grants.

    `expires_at` is in seconds since 1970.
    """

    token: Secret
    jti: str
    scope: tuple[str, ...]
    expires_at: int


class IdJagIssuer:
    """Obtains ID-JAGs from one identity provider; `issuances` counts them, where it grants so many."""

    def __init__(
        self, endpoint: TokenEndpoint, clock: Clock, issuances: Issuances | None = None
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._issuances = issuances

    async def obtain(self, user: VerifiedUser, server: McpServer, legs: Legs) -> IdJag:
        """A fresh ID-JAG for `user` at `server`, noted as one of `legs`; raises `Denied`.

        No leg is noted where the provider was not asked, because it has failed repeatedly.
        """
        try:
            with self._endpoint.admission() as permit, legs.leg(LEG_1) as notes:
                return await self._obtain(user, server, notes, permit)
        except FAULTS as fault:
            raise leg_1_denial(fault) from None

    async def _obtain(
        self, user: VerifiedUser, server: McpServer, notes: LegNotes, permit: Permit
    ) -> IdJag:
        answer = await self._endpoint.post(_request(user, server), notes, permit)
        token, scope = _read(answer, server)
        if self._issuances is not None:
            self._issuances.count(user, server)
        if server.scopes and not scope:
            raise Denied(Reason.SCOPE_DENIED, "no requested scope was granted at leg 1")
        id_jag = self._checked(token, user, server, scope)
        notes.jti, notes.scope, notes.expires_at = id_jag.jti, scope, id_jag.expires_at
        notes.id_jag_digest = token.digest()
        return id_jag

    def _checked(
        self, token: Secret, user: VerifiedUser, server: McpServer, scope: tuple[str, ...]
    ) -> IdJag:
        """The ID-JAG, once its claims are what we asked for (section 3.1)."""
        try:
            jws = take_apart(token)
        except NotCompactJws as error:
            _mismatch(str(error))
        expected = {"iss": user.issuer, "client_id": server.authorization_server.client.id}
        or_array_of_it = {"aud": server.authorization_server.issuer, "resource": server.resource}
        if jws.header.get("typ") != _TYP:
            _mismatch("typ")
        for name, value in expected.items():
            if jws.claims.get(name) != value:
                _mismatch(name)
        for name, value in or_array_of_it.items():
            if _only(jws.claims.get(name)) != value:
                _mismatch(name)
        expires_at = self._checked_end(jws.claims)
        return IdJag(token=token, jti=_jti(jws.claims), scope=scope, expires_at=expires_at)

    def _checked_end(self, claims: Mapping[str, object]) -> int:
        expires = claims.get("exp")
        if isinstance(expires, bool) or not isinstance(expires, int):
            _mismatch("exp")
        if expires <= self._clock.wall():
            _mismatch("exp")
        if "cnf" in claims:  # bound to a key, and we offered none (section 9.8.1.1)
            _mismatch("cnf")
        return expires


def _request(user: VerifiedUser, server: McpServer) -> dict[str, str]:
    """Section 4.3, with exactly one `resource`: FastMCP and the conformance suite require it."""
    form = {
        "grant_type": TOKEN_EXCHANGE,
        "requested_token_type": ID_JAG,
        "audience": server.authorization_server.issuer,
        "resource": server.resource,
        "subject_token": user.token.reveal(),
        "subject_token_type": SUBJECT_TOKEN_TYPES[user.provider.subject_token],
    }
    return form | ({"scope": " ".join(server.scopes)} if server.scopes else {})


def _read(answer: Mapping[str, object], server: McpServer) -> tuple[Secret, tuple[str, ...]]:
    """Section 4.3.3 of the draft, RFC 8693 section 2.2.1. A refresh token is never looked at."""
    if answer.get("issued_token_type") != ID_JAG:
        raise AnswerInvalid("issued_token_type is not id-jag")
    if token_type_of(answer) not in _TOKEN_TYPES:
        raise AnswerInvalid("token_type is not N_A")
    if _only(answer.get("resource", server.resource)) != server.resource:
        raise AnswerInvalid("resource is not the requested one")
    return token_of(answer), scope_of(answer, server.scopes)


def _only(value: object) -> object:
    """A claim that may be a text or an array of exactly one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _jti(claims: Mapping[str, object]) -> str:
    value = claims.get("jti")
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_JTI_LENGTH:
        _mismatch("jti")
    return value


def _mismatch(claim: str) -> NoReturn:
    raise Denied(Reason.ID_JAG_INVALID, f"the ID-JAG: {claim}") from None
