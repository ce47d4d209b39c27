"""Keys that sign: a ring of ES256 keys with the next one announced before it is used."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm

ALGORITHM: Final = "ES256"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One P-256 key pair under its `kid`."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        return cls(kid=secrets.token_hex(8), private_key=ec.generate_private_key(ec.SECP256R1()))

    def private_pem(self) -> str:
        """The private half as PEM (PKCS 8, not encrypted)."""
        return self.private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode()

    def public_pem(self) -> str:
        """The public half as PEM (SubjectPublicKeyInfo)."""
        return (
            self.private_key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def public_jwk(self) -> dict[str, Any]:
        """The public half as a JWK (RFC 7517 section 4)."""
        jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self.private_key.public_key()))
        return {**jwk, "kid": self.kid, "use": "sig", "alg": ALGORITHM}


class KeyRing:
    """Signs with one key, verifies with all, and already publishes the key that comes next.

    Verifiers may refetch a JWKS only every so often, so a key that is used the moment it appears
    is unknown to them; one that was announced is not.
    """

    def __init__(self) -> None:
        self._past: tuple[SigningKey, ...] = ()
        self._current = SigningKey.new()
        self._next = SigningKey.new()

    def sign(self, claims: Mapping[str, Any], *, typ: str = "JWT") -> str:
        key = self._current
        headers = {"kid": key.kid, "typ": typ}
        return jwt.encode(dict(claims), key.private_key, algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str, *, issuer: str, audience: str) -> dict[str, Any]:
        """The claims of a token this ring signed; raises `jwt.InvalidTokenError`."""
        claims: dict[str, Any] = jwt.decode(
            token,
            self._find(jwt.get_unverified_header(token).get("kid")).private_key.public_key(),
            algorithms=[ALGORITHM],
            issuer=issuer,
            audience=audience,
            options={"require": ["iss", "sub", "aud", "exp", "iat"], "strict_aud": True},
        )
        return claims

    def rotate(self, *, drop: bool = False) -> None:
        """Moves on to the announced key; `drop` forgets the old ones and all they signed."""
        self._past = () if drop else (*self._past, self._current)
        self._current, self._next = self._next, SigningKey.new()

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517 section 5)."""
        return {"keys": [key.public_jwk() for key in self._published()]}

    def _published(self) -> tuple[SigningKey, ...]:
        return (*self._past, self._current, self._next)

    def _find(self, kid: str | None) -> SigningKey:
        for key in self._published():
            if key.kid == kid:
                return key
        raise jwt.InvalidSignatureError("no key of this ring has that kid")
