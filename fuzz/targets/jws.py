"""User tokens taken apart: what passes, PyJWT reads alike, and the claims' checks deny or hold.

An input is a token; or, in lines, what its segments encode, since a fuzzer cannot guess base64.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import jwt

from ext_authz.identity.claims import (
    LEEWAY_SECONDS,
    MAX_SUBJECT_LENGTH,
    VerifiedClaims,
    check_audience,
    check_shapes,
    check_times,
    refuse_other_kinds,
)
from ext_authz.identity.compact_jws import NotCompactJws, UnverifiedJws, take_apart
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import _user
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import IdentityProvider, SubjectToken
from tests.unit.trails import IDP

NOW: Final = 1_795_000_000
PROVIDERS: Final = [replace(IDP, subject_token=kind) for kind in SubjectToken]
REASONS: Final = {
    Reason.TOKEN_CLAIMS_INVALID,
    Reason.TOKEN_EXPIRED,
    Reason.TOKEN_AUDIENCE_WRONG,
}


def one_input(data: bytes) -> None:
    token = _token(data.removesuffix(b"\n"))
    try:
        jws = take_apart(token)
    except NotCompactJws:
        return
    _assert_read_alike(token, jws)
    for provider in PROVIDERS:
        _assert_denied_or_sound(jws, provider, token)


def _token(data: bytes) -> Secret:
    lines = data.split(b"\n")
    if len(lines) == 1:
        return Secret(data.decode(errors="replace"))
    encoded = [base64.urlsafe_b64encode(line).rstrip(b"=") for line in lines]
    return Secret(b".".join(encoded).decode())


def _assert_read_alike(token: Secret, jws: UnverifiedJws) -> None:
    try:
        theirs = jwt.decode_complete(token.reveal(), options={"verify_signature": False})
    except jwt.PyJWTError:
        return  # refused all the same
    assert _spelt(theirs["header"]) == _spelt(jws.header)
    assert _spelt(theirs["payload"]) == _spelt(jws.claims)


def _spelt(members: Mapping[str, object]) -> str:
    """Tells 1 from True and from 1.0."""
    return json.dumps(members, sort_keys=True)


def _assert_denied_or_sound(jws: UnverifiedJws, provider: IdentityProvider, token: Secret) -> None:
    try:
        refuse_other_kinds(jws.header, jws.claims, provider.subject_token)
        check_shapes(jws.claims)
        check_times(jws.claims, NOW)
        check_audience(jws.claims, provider)
    except Denied as denied:
        assert denied.reason in REASONS
        return
    _assert_sound(_user(VerifiedClaims(jws.claims), provider, token), jws.claims)


def _assert_sound(user: VerifiedUser, claims: Mapping[str, object]) -> None:
    assert user.subject == claims["sub"]
    assert user.expires_at == claims["exp"]
    assert user.expires_at > NOW - LEEWAY_SECONDS
    for text in (user.subject, user.session, user.acr, user.agent):
        assert text is None or 0 < len(text) <= MAX_SUBJECT_LENGTH
        assert text is None or not {"\0", "\n", "\r", "\x1b"} & set(text)
