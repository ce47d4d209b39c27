"""Signed checkpoints (Ed25519, RFC 8032): whoever rewrites the chain before one needs its key.

A checkpoint signs where its chain stood. Nothing before it can be changed, dropped or reordered
afterwards without the key; what comes after it is only chained.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from ext_authz.audit.chain import Head

_KEY_ID_LENGTH: Final = 16


class NotASigningKey(ValueError):
    """The text is no Ed25519 key in PEM."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint says: at `time` (milliseconds since 1970) the chain stood at `head`."""

    head: Head
    time: int

    def signed_text(self) -> bytes:
        """The bytes under the signature."""
        head = self.head
        words = (head.chain_uid, head.sequence, head.fingerprint, self.time)
        return "".join(f"{word}\n" for word in ("mcp-ext-authz checkpoint v1", *words)).encode()


class Signer:
    """Signs statements with the audit's private key."""

    def __init__(self, pem: str) -> None:
        """Raises `NotASigningKey`."""
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError):
            raise NotASigningKey from None
        if not isinstance(key, Ed25519PrivateKey):
            raise NotASigningKey
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    def sign(self, statement: Statement) -> str:
        """The signature, in base64url without padding."""
        signature = self._key.sign(statement.signed_text())
        return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def is_signed(statement: Statement, signature: str, key: Ed25519PublicKey) -> bool:
    """Whether `signature` is that of `key` under `statement`."""
    try:
        key.verify(base64.urlsafe_b64decode(signature + "=="), statement.signed_text())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a key: the beginning of its SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_KEY_ID_LENGTH]


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """The public key in `pem`, which may also hold the private one; raises `NotASigningKey`."""
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        return _public_of_private(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise NotASigningKey
    return key


def _public_of_private(pem: bytes) -> Ed25519PublicKey:
    try:
        return Signer(pem.decode()).public_key
    except UnicodeDecodeError:
        raise NotASigningKey from None
