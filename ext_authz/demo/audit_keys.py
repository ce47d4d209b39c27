"""The audit's own keys, made anew for each run."""

import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ext_authz.secret import Secret


def signing_key() -> Secret:
    """An Ed25519 key in PEM: as `openssl genpkey -algorithm ed25519` makes it."""
    key = Ed25519PrivateKey.generate()
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def fingerprint_key() -> Secret:
    """As `openssl rand -hex 32` makes it."""
    return Secret(secrets.token_hex(32))
