"""Real keys, made once for a whole run: RSA keys take their time."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Jwk = dict[str, Any]

_MAKERS: Final[dict[str, Callable[[], Private]]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key with the name and algorithm under which its public half is published."""

    key_id: str
    algorithm: str
    private: Private

    def sign(self, message: bytes) -> bytes:
        return jwt.get_algorithm_by_name(self.algorithm).sign(message, self.private)

    def jwk(self, **changes: object) -> Jwk:
        """The public key as an issuer publishes it."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        key: Jwk = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        key.pop("key_ops", None)
        return {**key, "kid": self.key_id, "alg": self.algorithm, "use": "sig", **changes}

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def private_pem(self) -> str:
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem.decode()


@functools.cache
def signing_key(algorithm: str = "ES256", key_id: str = "key-1") -> SigningKey:
    """The key of this name: always the same one within a run."""
    return SigningKey(key_id=key_id, algorithm=algorithm, private=_MAKERS[algorithm]())


@functools.cache
def weak_rsa_key() -> SigningKey:
    private = rsa.generate_private_key(65537, 1024)
    return SigningKey(key_id="weak", algorithm="RS256", private=private)
