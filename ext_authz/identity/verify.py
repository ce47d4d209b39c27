"""From a user token to a user we may speak for: verified, or denied with the rule it broke."""

from collections.abc import Mapping
from typing import Final, NoReturn

import jwt

from ext_authz.clock import Clock
from ext_authz.identity.claims import (
    VerifiedClaims,
    check_audience,
    check_shapes,
    check_times,
    refuse_other_kinds,
)
from ext_authz.identity.compact_jws import NotCompactJws, UnverifiedJws, take_apart
from ext_authz.identity.issuer_keys import IssuerKeys, KeysUnavailable
from ext_authz.identity.token_memory import TokenMemory, Verified
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import IdentityProvider

# Every option stands here, though some are defaults: what is checked must be seen, and must not
# change with PyJWT's. Times, audience and subject are checked in `claims.py`, by our clock and rules.
_OPTIONS: Final[jwt.types.Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": True,
    "verify_sub": False,
    "verify_jti": False,
    "strict_aud": False,
    "enforce_minimum_key_length": True,
    "require": ["iss", "sub", "aud", "exp", "iat"],
}


class Users:
    """Verifies user tokens against the identity providers of the settings."""

    def __init__(
        self,
        providers: Mapping[str, IdentityProvider],
        keys: Mapping[str, IssuerKeys],
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._keys = keys
        self._clock = clock
        self._memory = TokenMemory()

    async def verify(self, unverified_token: Secret) -> VerifiedUser:
        """The user whom `unverified_token` proves.

        Raises `Denied` with a TOKEN_* reason, or ISSUER_KEYS_UNAVAILABLE.
        """
        digest = unverified_token.digest()
        known = self._memory.recall(digest, self._clock.wall())
        if known is not None and await self._key_of(known.user.provider, known.key_id) is known.key:
            return known.user
        verified = await self._verify_anew(unverified_token)
        self._memory.remember(digest, verified)
        return verified.user

    async def _verify_anew(self, unverified_token: Secret) -> Verified:
        jws = _taken_apart(unverified_token)
        provider = self._provider_of(jws)
        if jws.algorithm not in provider.algorithms:
            _forged("alg is not one of the issuer's")
        key = await self._key_of(provider, jws.key_id)
        if key is None:
            _forged("kid is not one of the issuer's")
        claims = _verified(unverified_token, jws, provider, key)
        refuse_other_kinds(jws.header, claims, provider.subject_token)
        check_shapes(claims)
        check_times(claims, self._clock.wall())
        check_audience(claims, provider)
        user = _user(claims, provider, unverified_token)
        return Verified(user=user, claims=claims, key=key, key_id=jws.key_id)

    def _provider_of(self, jws: UnverifiedJws) -> IdentityProvider:
        """By exact `iss`: a token names its issuer, the settings say whether we know it."""
        issuer = jws.claims.get("iss")
        provider = self._providers.get(issuer) if isinstance(issuer, str) else None
        if provider is None:
            raise Denied(Reason.TOKEN_ISSUER_UNKNOWN)
        return provider

    async def _key_of(self, provider: IdentityProvider, key_id: str | None) -> jwt.PyJWK | None:
        try:
            return await self._keys[provider.issuer].find(key_id)
        except KeysUnavailable as error:
            raise Denied(Reason.ISSUER_KEYS_UNAVAILABLE, str(error)) from None


def _taken_apart(token: Secret) -> UnverifiedJws:
    try:
        return take_apart(token)
    except NotCompactJws as error:
        raise Denied(Reason.TOKEN_MALFORMED, str(error)) from None


def _verified(
    token: Secret, jws: UnverifiedJws, provider: IdentityProvider, key: jwt.PyJWK
) -> VerifiedClaims:
    if key.algorithm_name != jws.algorithm:
        _forged("alg is not that of the key")
    try:
        claims = jwt.decode(
            token.reveal(),
            key=key,
            algorithms=[jws.algorithm],
            issuer=provider.issuer,
            options=_OPTIONS,
        )
    except jwt.MissingRequiredClaimError:
        raise Denied(Reason.TOKEN_CLAIMS_INVALID, "a required claim is missing") from None
    except jwt.PyJWTError as error:
        _forged(type(error).__name__)
    return VerifiedClaims(claims)


def _user(claims: VerifiedClaims, provider: IdentityProvider, token: Secret) -> VerifiedUser:
    return VerifiedUser(
        provider=provider,
        issuer=provider.issuer,
        subject=str(claims["sub"]),
        session=_optional(claims, "sid"),
        acr=_optional(claims, "acr"),
        agent=_optional(claims, "azp") or _optional(claims, "client_id"),
        expires_at=int(str(claims["exp"])),
        token=token,
    )


def _optional(claims: VerifiedClaims, name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) else None


def _forged(detail: str) -> NoReturn:
    raise Denied(Reason.TOKEN_SIGNATURE_INVALID, detail) from None
