"""User tokens that were verified before: a signature proves the same thing the second time.

Kept by SHA-256 of the whole token, so that nothing but the very bytes that were verified is recognised.
What can change since is checked again on every request: the times, and that the issuer still publishes
the key. The least recently used go first.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import jwt

from ext_authz.identity.claims import VerifiedClaims, check_times
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Denied

MAX_TOKENS: Final = 20_000  # a token has a kilobyte or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a token proved, and the key that it was verified with."""

    user: VerifiedUser
    claims: VerifiedClaims
    key: jwt.PyJWK
    key_id: str | None


class TokenMemory:
    """The last tokens that were verified."""

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._tokens: OrderedDict[bytes, Verified] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def recall(self, digest: bytes, now: float) -> Verified | None:
        """What the token with this digest proved; raises `Denied` where its time is over."""
        verified = self._tokens.get(digest)
        if verified is None:
            return None
        try:
            check_times(verified.claims, now)
        except Denied:
            del self._tokens[digest]
            raise
        self._tokens.move_to_end(digest)
        return verified

    def remember(self, digest: bytes, verified: Verified) -> None:
        """Keeps what a token proved."""
        self._tokens[digest] = verified
        self._tokens.move_to_end(digest)
        while len(self._tokens) > self._max_tokens:
            self._tokens.popitem(last=False)
