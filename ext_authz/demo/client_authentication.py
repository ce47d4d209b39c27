"""Which client is at the identity provider's token endpoint (RFC 6749 section 2.3)."""

import base64
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import jwt

from ext_authz.demo.oauth_endpoint import Refusal
from ext_authz.demo.policy import Policy, RegisteredClient
from ext_authz.demo.signing_keys import ALGORITHM

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TYPS: Final = (None, "JWT", "client-authentication+jwt")
MAX_ASSERTION_SECONDS: Final = 300


class ClientAuthentication:
    """Holds the registered clients and remembers each `jti` for as long as it could be replayed."""

    def __init__(self, policy: Policy, *, token_endpoint: str) -> None:
        self._policy = policy
        self._audiences = (policy.issuer, token_endpoint)
        self._seen: dict[str, float] = {}

    def authenticate(self, authorization: str, fields: Mapping[str, str]) -> RegisteredClient:
        """The client that the header or the form proves; raises `Refusal`."""
        method = _method_used(authorization, fields)
        client = self._authenticated(method, authorization, fields)
        if fields.get("client_id", client.client_id) != client.client_id:
            raise _refused("client_id is another client's")
        return client

    def _authenticated(
        self, method: str, authorization: str, fields: Mapping[str, str]
    ) -> RegisteredClient:
        if method == "private_key_jwt":
            return self._by_assertion(fields)
        if method == "client_secret_basic":
            return self._by_secret(method, *_basic_credentials(authorization))
        return self._by_secret(method, fields.get("client_id", ""), fields["client_secret"])

    def _by_secret(self, method: str, client_id: str, secret: str) -> RegisteredClient:
        client = self._registered(client_id, method)
        expected = client.secret.reveal() if client.secret else ""
        if not expected or not hmac.compare_digest(expected.encode(), secret.encode()):
            raise _refused("wrong secret")
        return client

    def _by_assertion(self, fields: Mapping[str, str]) -> RegisteredClient:
        """RFC 7523 section 3: signed by the client, about itself, for us, once, and soon over."""
        if fields.get("client_assertion_type") != ASSERTION_TYPE:
            raise _refused("unknown client_assertion_type")
        assertion = fields["client_assertion"]
        try:
            unverified = jwt.decode(assertion, options={"verify_signature": False})
            client = self._registered(str(unverified.get("sub")), "private_key_jwt")
            claims = self._verified(assertion, client)
        except (jwt.PyJWTError, TypeError, ValueError):
            raise _refused("the assertion does not verify") from None
        self._use_once(f"{client.client_id} {claims['jti']}", claims["exp"])
        return client

    def _verified(self, assertion: str, client: RegisteredClient) -> dict[str, Any]:
        if jwt.get_unverified_header(assertion).get("typ") not in ASSERTION_TYPS:
            raise _refused("the assertion is another kind of token")
        claims: dict[str, Any] = jwt.decode(
            assertion,
            client.public_key,
            algorithms=[ALGORITHM],
            issuer=client.client_id,
            subject=client.client_id,
            leeway=5,
            options={"require": ["iss", "sub", "aud", "exp", "jti"], "verify_aud": False},
        )
        if claims["aud"] not in self._audiences:  # one string; a list is refused (rfc7523bis)
            raise _refused("the assertion is for somebody else")
        if claims["exp"] > time.time() + MAX_ASSERTION_SECONDS + 5:
            raise _refused("the assertion lives too long")
        return claims

    def _use_once(self, use: str, expires: float) -> None:
        now = time.time()
        self._seen = {seen: until for seen, until in self._seen.items() if until > now - 5}
        if use in self._seen:
            raise _refused("the assertion was used before")
        self._seen[use] = expires

    def _registered(self, client_id: str, method: str) -> RegisteredClient:
        client = self._policy.client(client_id)
        if client is None or client.auth != method:
            raise _refused("no such client with this way of authentication")
        return client


def _method_used(authorization: str, fields: Mapping[str, str]) -> str:
    """The one method in use; more than one is malformed (RFC 6749 section 2.3)."""
    methods = [
        method
        for method, used in (
            ("client_secret_basic", bool(authorization)),
            ("client_secret_post", "client_secret" in fields),
            ("private_key_jwt", "client_assertion" in fields),
        )
        if used
    ]
    if len(methods) > 1:
        raise Refusal("invalid_request", "more than one way of client authentication")
    if not methods:
        raise _refused("no client authentication")
    return methods[0]


def _basic_credentials(authorization: str) -> tuple[str, str]:
    """Id and secret, each form-encoded before base64 (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise _refused("the Authorization header is malformed") from None
    if scheme.lower() != "basic" or not colon:
        raise _refused("the Authorization header is malformed")
    return unquote_plus(client_id), unquote_plus(secret)


def _refused(description: str) -> Refusal:
    return Refusal("invalid_client", description, status=401)
