"""A value that must never be printed."""

import hashlib
import hmac
import re
from typing import Final, NoReturn
from urllib.parse import unquote

# Tried once a word and never given back: the text is a client's, and may be as long as it likes.
_JWT: Final = re.compile(
    r"""(?<![\w-]) ( (?: (?!eyJ) [\w-] )*+ )  # what stands before it in the same word
        eyJ [\w-]{10,}+ \. [\w-]{10,}+ \. [\w-]++""",
    re.ASCII | re.VERBOSE,
)


class Secret:
    """A token, key or password whose every printed form is `***`.

    Holds text; gives it out only through `reveal()`, which belongs where bytes go on the wire.
    """

    __slots__ = ("_digest", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._digest: bytes | None = None

    def reveal(self) -> str:
        """The text itself, for the wire and nowhere else."""
        return self._value

    def length(self) -> int:
        """How many characters it has."""
        return len(self._value)

    def digest(self) -> bytes:
        """SHA-256 of the text: tells two secrets apart without keeping either."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._value.encode()).digest()
        return self._digest

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, _spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.digest(), other.digest())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would leave the process in clear")


def without_tokens(text: str) -> str:
    """The text with `***` for every JWT in it: clients put theirs where none belongs."""
    if "eyJ" not in text and "%" not in text:
        return text  # the usual case, at a fortieth of the cost
    shown = _JWT.sub(r"\1***", text)
    return "***" if _JWT.search(unquote(shown)) else shown
