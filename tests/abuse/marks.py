"""Secrets to be looked for wherever they must not be, in any spelling and by any piece of them."""

import base64
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

PIECE: Final = 16


class Marks:
    """Named secrets. Of each, every piece of `PIECE` characters counts as the whole."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, str] = {}

    def add(self, name: str, secret: str) -> None:
        for spelling in _spellings(secret):
            for start in range(0, len(spelling) - PIECE + 1, PIECE):
                self._pieces.setdefault(spelling[start : start + PIECE], name)

    def add_token(self, name: str, token: str) -> None:
        """A JWT: its header says nothing that others do not say too."""
        _, payload, signature = token.split(".")
        self.add(name, payload)
        self.add(name, signature)

    def found_in(self, shown: bytes) -> set[str]:
        """The names of the secrets that `shown` gives away."""
        return {name for piece, name in self._pieces.items() if piece in shown}


def _spellings(secret: str) -> Iterator[bytes]:
    """As it is, percent-encoded, in hex, and in base64 wherever in a longer text it stands."""
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield raw.hex().encode()
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + raw)
        yield encoded[4:]
        yield encoded[4:].translate(bytes.maketrans(b"+/", b"-_"))
