"""Keyed fingerprints: whether a token is one of ours can be told with the key, and with nothing else.

HMAC-SHA256 (RFC 2104) over the SHA-256 of a token. Each fingerprint names its key, so that records
written under an earlier key can still be asked for.
"""

import hashlib
import hmac
from functools import lru_cache
from typing import Final

SHORTEST_KEY: Final = 32  # characters: as long as the hash, where they are random bytes in Latin-1
_KEY_ID_TEXT: Final = b"mcp-ext-authz fingerprint key id"
_KEY_ID_LENGTH: Final = 8
_REMEMBERED: Final = 16_384


class KeyTooShort(ValueError):
    """A key that could be guessed; the message says what is wanted."""

    def __init__(self) -> None:
        super().__init__(f"has fewer than {SHORTEST_KEY} characters")


class Fingerprints:
    """Gives fingerprints under one key. `key_id` is eight hex digits that tell it from other keys."""

    def __init__(self, key: str) -> None:
        """Raises `KeyTooShort`."""
        if len(key) < SHORTEST_KEY:
            raise KeyTooShort
        self._key = key.encode()
        self._hmac = lru_cache(_REMEMBERED)(self._computed)  # a token comes again and again
        self.key_id = self._hmac(_KEY_ID_TEXT)[:_KEY_ID_LENGTH]

    def of(self, digest: bytes) -> str:
        """The fingerprint of what has this SHA-256: `<key id>:<64 hex digits>`."""
        return f"{self.key_id}:{self._hmac(digest)}"

    def of_subject(self, issuer: str, subject: str) -> str:
        """What stands in the place of a user's name: `hmac:<key id>:<64 hex digits>`.

        An issuer holds no NUL, so that no other issuer and subject come to the same bytes.
        """
        digest = hashlib.sha256(f"{issuer}\0{subject}".encode()).digest()
        return f"hmac:{self.of(digest)}"

    def _computed(self, message: bytes) -> str:
        return hmac.digest(self._key, message, "sha256").hex()
