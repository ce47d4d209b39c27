"""Leg 1: an ID token goes in, an ID-JAG for one MCP server comes out.

RFC 8693 section 2 in the profile of draft-ietf-oauth-identity-assertion-authz-grant-04 (sections
3.1 and 4.3).
"""

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import jwt

from ext_authz.demo.oauth_endpoint import (
    ID_JAG,
    ID_JAG_TYP,
    ID_TOKEN,
    TOKEN_EXCHANGE,
    Refusal,
)
from ext_authz.demo.policy import Connection, Policy, RegisteredClient, User
from ext_authz.demo.signing_keys import KeyRing

ID_JAG_SECONDS: Final = 300


class TokenExchange:
    """The rule by which ID-JAGs are issued. `disabled` holds the names of switched-off users."""

    def __init__(self, policy: Policy, keys: KeyRing, disabled: set[str]) -> None:
        self._policy = policy
        self._keys = keys
        self._disabled = disabled

    def exchange(self, client: RegisteredClient, fields: Mapping[str, str]) -> dict[str, Any]:
        """The token response for the client's form (RFC 8693 section 2.2.1); raises `Refusal`."""
        _check_kind(fields)
        subject = self._subject(_required(fields, "subject_token"), client)
        user = self._user(subject)
        connection = self._connection(fields, client, user)
        scope = _scope(connection.entitlements[user.name], fields.get("scope", ""))
        return {
            "access_token": self._id_jag(subject, connection, client, scope),
            "issued_token_type": ID_JAG,
            "token_type": "N_A",
            "expires_in": ID_JAG_SECONDS,
            "scope": scope,
        }

    def _subject(self, subject_token: str, client: RegisteredClient) -> dict[str, Any]:
        """The claims of our own ID token, issued to this very client (the draft, section 4.3.3)."""
        try:
            header = jwt.get_unverified_header(subject_token)
            claims = self._keys.verify(
                subject_token, issuer=self._policy.issuer, audience=client.client_id
            )
        except jwt.InvalidTokenError:
            raise Refusal("invalid_grant", "the subject token is not valid here") from None
        if header.get("typ", "JWT") != "JWT":
            raise Refusal("invalid_grant", "the subject token is not an ID token")
        return claims

    def _user(self, subject: Mapping[str, Any]) -> User:
        user = self._policy.user_of(subject["sub"])
        if user is None or user.name in self._disabled:
            raise Refusal("invalid_grant", "the user is not active")
        return user

    def _connection(
        self, fields: Mapping[str, str], client: RegisteredClient, user: User
    ) -> Connection:
        """The connection asked for, if this client and this user are part of it."""
        connection = self._policy.connection(
            _required(fields, "audience"), _required(fields, "resource")
        )
        if (
            connection is None
            or client.client_id not in connection.client_ids
            or user.name not in connection.entitlements
        ):
            raise Refusal("invalid_target", "no access to this audience and resource")
        return connection

    def _id_jag(
        self,
        subject: Mapping[str, Any],
        connection: Connection,
        client: RegisteredClient,
        scope: str,
    ) -> str:
        now = int(time.time())
        claims = {
            "iss": self._policy.issuer,
            "sub": subject["sub"],
            "aud": connection.audience,
            "client_id": connection.client_ids[client.client_id],
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + ID_JAG_SECONDS,
            "resource": connection.resource,
            "scope": scope,
            "auth_time": subject["auth_time"],
            "acr": subject["acr"],
        }
        return self._keys.sign(claims, typ=ID_JAG_TYP)


def _check_kind(fields: Mapping[str, str]) -> None:
    if _required(fields, "grant_type") != TOKEN_EXCHANGE:
        raise Refusal("unsupported_grant_type", "only token exchange is offered")
    if _required(fields, "requested_token_type") != ID_JAG:
        raise Refusal("invalid_request", "only ID-JAGs are issued")
    if _required(fields, "subject_token_type") != ID_TOKEN:
        raise Refusal("invalid_request", "only ID tokens are exchanged")
    if "actor_token" in fields or "actor_token_type" in fields:
        raise Refusal("invalid_request", "actor tokens are not supported")


def _required(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise Refusal("invalid_request", f"{name} is missing")
    return fields[name]


def _scope(allowed: frozenset[str], asked: str) -> str:
    """What was asked and is allowed, or all that is allowed where nothing was asked."""
    granted = allowed & set(asked.split()) if asked else allowed
    if not granted:
        raise Refusal("invalid_scope", "none of these scopes is allowed")
    return " ".join(sorted(granted))
