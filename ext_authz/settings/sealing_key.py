"""The key under which replicas seal what they share: 32 random bytes, written in hex or base64."""

import base64
import binascii
import re
from typing import Final

from ext_authz.secret import Secret

KEY_BYTES: Final = 32
_FEWEST_VALUES: Final = 16  # different bytes: of 32 random ones there are about 30
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


def sealing_key(secret: Secret) -> bytes:
    """The key that `secret` spells; raises `ValueError` unless it is 32 bytes that look random."""
    text = secret.reveal()
    key = bytes.fromhex(text) if _HEX.fullmatch(text) else _from_base64(text)
    if len(key) != KEY_BYTES or len(set(key)) < _FEWEST_VALUES:
        raise ValueError("not 32 random bytes")
    return key


def _from_base64(text: str) -> bytes:
    """RFC 4648 section 4, padding included."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
