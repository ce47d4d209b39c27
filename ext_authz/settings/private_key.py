"""Our private keys, each parsed once: an RSA key takes 50 to 300 ms, and nobody is served meanwhile."""

import functools

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ext_authz.secret import Secret


@functools.lru_cache(maxsize=64)
def private_key(pem: Secret) -> PrivateKeyTypes:
    """The key that `pem` spells; raises `ValueError` unless it is an unencrypted PEM private key."""
    try:
        return load_pem_private_key(pem.reveal().encode(), password=None)
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError("not an unencrypted PEM private key") from None
