"""Sealing what leaves the process for the shared server: unreadable there, and unusable if changed.

AES-256-GCM (NIST SP 800-38D). The cache key is authenticated along with each value, so that a value
opens only where it was put. Cache keys are hashes, but of guessable things: names on the server are
keyed hashes of them, so that nobody finds out there whether a certain user has a token.
"""

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_LABEL: Final = b"mcp-ext-authz shared access token v1"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12  # random; section 8.3 allows 2**32 seals under one key
_STEP: Final = 512  # sealed lengths tell no more than this: some tokens hold their user's name


class NotSealed(Exception):
    """The bytes were not sealed for that cache key, with a key that we have; or were changed since."""


class Seals:
    """Seals with the current key, and opens what was sealed with it or with the previous one."""

    def __init__(self, current: bytes, previous: bytes | None = None) -> None:
        """Each key is 32 random bytes."""
        keys = [_Key(each) for each in (current, previous) if each is not None]
        self._current = keys[0]
        self._by_id = {key.id: key for key in keys}

    def names(self, cache_key: str) -> tuple[str, ...]:
        """Under which names (hex) its value may be: where we put it first, then the previous key's."""
        return tuple(key.name(cache_key) for key in self._by_id.values())

    def seal(self, cache_key: str, value: bytes) -> bytes:
        """Key id, nonce and ciphertext of `value`, which does not end with spaces."""
        padded = value.ljust(-(-len(value) // _STEP) * _STEP)
        return self._current.seal(cache_key, padded)

    def open(self, cache_key: str, sealed: bytes) -> bytes:
        """The value that was sealed for `cache_key`; raises `NotSealed`."""
        key = self._by_id.get(sealed[:_KEY_ID_BYTES])
        if key is None:
            raise NotSealed
        return key.open(cache_key, sealed).rstrip(b" ")


class _Key:
    """What one key is used for: a key of its own for each purpose (RFC 5869)."""

    def __init__(self, key: bytes) -> None:
        self.id = _derived(key, b"key id")[:_KEY_ID_BYTES]
        self._naming = _derived(key, b"names")
        self._cipher = AESGCM(_derived(key, b"seal"))

    def name(self, cache_key: str) -> str:
        return hmac.digest(self._naming, cache_key.encode(), "sha256").hex()

    def seal(self, cache_key: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return self.id + nonce + self._cipher.encrypt(nonce, value, self._bound_to(cache_key))

    def open(self, cache_key: str, sealed: bytes) -> bytes:
        nonce, rest = sealed[_KEY_ID_BYTES:][:_NONCE_BYTES], sealed[_KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, rest, self._bound_to(cache_key))
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise NotSealed from None

    def _bound_to(self, cache_key: str) -> bytes:
        """Parts of fixed length before the one of any, so that no two cache keys give the same bytes."""
        return _LABEL + self.id + cache_key.encode()


def _derived(key: bytes, purpose: bytes) -> bytes:
    info = _LABEL + b": " + purpose
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(key)
