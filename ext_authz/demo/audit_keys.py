"""The audit's own keys, made anew for each run."""

import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ext_authz.audit.checkpoint import Signer
from ext_authz.secret import Secret


def signing_key() -> Secret:
    """An Ed25519 key in PEM: as `openssl genpkey -algorithm ed25519` makes it."""
    key = Ed25519PrivateKey.generate()
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public_key(signing_key: str) -> bytes:
    """Its public half in PEM: as `openssl pkey -pubout` makes it."""
    key = Signer(signing_key).public_key
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint_key() -> Secret:
    """As `openssl rand -hex 32` makes it."""
    return Secret(secrets.token_hex(32))
