"""How we prove at a token endpoint which client we are."""

import base64
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never, cast
from urllib.parse import quote_plus

import jwt

from ext_authz.clock import Clock
from ext_authz.secret import Secret
from ext_authz.settings.private_key import private_key
from ext_authz.settings.secret_source import SecretUnreadable
from ext_authz.settings.settings import AssertionAudience, AuthMethod, OAuthClient

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPrivateKeys

ASSERTION_SECONDS: Final = 60
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What client authentication adds to one token request; `repr` shows none of it."""

    form: dict[str, str] = field(repr=False)
    headers: dict[str, str] = field(repr=False, default_factory=dict)


def credentials_for(
    client: OAuthClient, issuer: str, token_endpoint: str, clock: Clock
) -> Credentials:
    """The credentials for one request; an assertion is made anew each time.

    `client_id` is always in the form, beside HTTP Basic too: servers exist that need it there.
    Raises `SecretUnreadable` where the credential cannot be read.
    """
    credential = client.credential.read()
    form = {"client_id": client.id}
    match client.auth:
        case AuthMethod.CLIENT_SECRET_BASIC:
            return Credentials(form=form, headers={"authorization": _basic(client.id, credential)})
        case AuthMethod.CLIENT_SECRET_POST:
            return Credentials(form=form | {"client_secret": credential.reveal()})
        case AuthMethod.PRIVATE_KEY_JWT:
            to_endpoint = client.assertion_audience is AssertionAudience.TOKEN_ENDPOINT
            audience = token_endpoint if to_endpoint else issuer
            assertion = _assertion(client, credential, audience, int(clock.wall()))
            return Credentials(
                form=form | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
            )
        case _:
            assert_never(client.auth)


def _basic(client_id: str, secret: Secret) -> str:
    """RFC 6749 section 2.3.1: both parts are form-encoded before they are joined."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _assertion(client: OAuthClient, key: Secret, audience: str, now: int) -> str:
    """RFC 7523 section 3, with the `typ` and the single `aud` of rfc7523bis."""
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": audience,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + ASSERTION_SECONDS,
    }
    header = {"typ": "client-authentication+jwt"}
    if client.key_id is not None:
        header["kid"] = client.key_id
    try:
        parsed = cast("AllowedPrivateKeys", private_key(key))  # of another type: a TypeError
        return jwt.encode(claims, parsed, algorithm=client.algorithm, headers=header)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):  # changed since the start
        raise SecretUnreadable(f"it is not a private key for {client.algorithm}") from None
