"""The shape of a user token's claims: what PyJWT leaves to us (OpenID Connect Core 1.0 section 2).

Every check names its rule, so that the audit says which one a token broke.
"""

import unicodedata
from collections.abc import Mapping
from typing import Final, NewType, NoReturn

from ext_authz.reasons import Denied, Reason
from ext_authz.settings.settings import IdentityProvider, SubjectToken

LEEWAY_SECONDS: Final = 30
MAX_LIFETIME_SECONDS: Final = 7 * 24 * 3600
MAX_SUBJECT_LENGTH: Final = 255
_LATEST: Final = 2**40  # seconds; beyond any date, and far from overflow
_ID_TOKEN_TYPES: Final = {"JWT", "jwt"}
_ACCESS_TOKEN_TYPES: Final = {*_ID_TOKEN_TYPES, "at+jwt", "application/at+jwt"}  # RFC 9068
_OPTIONAL_TEXTS: Final = ("sid", "acr", "azp", "client_id")

VerifiedClaims = NewType("VerifiedClaims", Mapping[str, object])


def refuse_other_kinds(
    header: Mapping[str, object], claims: Mapping[str, object], kind: SubjectToken
) -> None:
    """Refuses tokens of another kind posing as the configured one (RFC 8725 section 3.11)."""
    typ = header.get("typ", "JWT")
    allowed = _ID_TOKEN_TYPES if kind is SubjectToken.ID_TOKEN else _ACCESS_TOKEN_TYPES
    if not isinstance(typ, str) or typ not in allowed:
        _invalid(f"typ is not that of an {kind.value}")
    if "events" in claims:
        _invalid("a logout or security event token")
    wanted = "ID" if kind is SubjectToken.ID_TOKEN else "Bearer"
    if claims.get("typ", wanted) != wanted:  # Keycloak tells its kinds apart by this claim
        _invalid(f"the typ claim is not that of an {kind.value}")
    if kind is SubjectToken.ACCESS_TOKEN and {"nonce", "at_hash", "c_hash"} & claims.keys():
        _invalid("an ID token where an access token is expected")


def check_shapes(claims: Mapping[str, object]) -> None:
    """Types and ranges of the claims that we use, before anything computes with them."""
    issued, expires = _date(claims, "iat"), _date(claims, "exp")
    if "nbf" in claims:
        _date(claims, "nbf")
    if not issued < expires <= issued + MAX_LIFETIME_SECONDS:
        _invalid("exp is not within a sane life after iat")
    _check_subject(claims.get("sub"))
    for name in _OPTIONAL_TEXTS:
        if name in claims:
            _check_text(name, claims[name])


def check_times(claims: Mapping[str, object], now: float) -> None:
    """RFC 7519 sections 4.1.4 to 4.1.6, with `LEEWAY_SECONDS` for clocks that differ."""
    if now >= _date(claims, "exp") + LEEWAY_SECONDS:
        raise Denied(Reason.TOKEN_EXPIRED)
    if _date(claims, "iat") > now + LEEWAY_SECONDS:
        _invalid("iat is in the future")
    if "nbf" in claims and _date(claims, "nbf") > now + LEEWAY_SECONDS:
        _invalid("nbf is in the future")


def times_of(claims: Mapping[str, object]) -> Mapping[str, object]:
    """The claims that `check_times` reads."""
    return {name: claims[name] for name in ("iat", "nbf", "exp") if name in claims}


def check_audience(claims: Mapping[str, object], provider: IdentityProvider) -> None:
    """The token is for us.

    An ID token's audiences must all be ours, and `azp` too where it stands (OpenID Connect Core 1.0
    section 3.1.3.7): the identity provider exchanges no other. An access token may name more
    resources than ours (RFC 9068 section 4 asks for one of them).
    """
    audience = claims.get("aud")
    values = audience if isinstance(audience, list) else [audience]
    if not values or not all(isinstance(value, str) for value in values):
        raise Denied(Reason.TOKEN_AUDIENCE_WRONG, "aud is not a text or a list of texts")
    ours = [value in provider.audience for value in values]
    if provider.subject_token is SubjectToken.ACCESS_TOKEN:
        is_for_us = any(ours)
    else:
        is_for_us = all(ours) and claims.get("azp", values[0]) in provider.audience
    if not is_for_us:
        raise Denied(Reason.TOKEN_AUDIENCE_WRONG)


def _date(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LATEST:
        _invalid(f"{name} is missing or not a whole number of seconds")
    return value


def _check_subject(value: object) -> None:
    _check_text("sub", value)
    if isinstance(value, str) and unicodedata.normalize("NFC", value) != value:
        _invalid("sub has a second spelling")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SUBJECT_LENGTH:
        _invalid(f"{name} is missing, empty, too long or not a text")
    if any(unicodedata.category(character)[0] == "C" for character in value):
        _invalid(f"{name} holds a control character")


def _invalid(detail: str) -> NoReturn:
    raise Denied(Reason.TOKEN_CLAIMS_INVALID, detail)
