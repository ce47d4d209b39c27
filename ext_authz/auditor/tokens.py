"""`audit fingerprint`: whether a token that turned up somewhere is one of ours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ext_authz.audit.fingerprint import Fingerprints, KeyTooShort
from ext_authz.auditor.files import BadInput, Source, one_of
from ext_authz.auditor.joined import Row, logs
from ext_authz.auditor.wanted import Wanted
from ext_authz.secret import Secret

_LONGEST: Final = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record that a token stands behind, and as which of the three."""

    row: Row
    tokens: tuple[str, ...]


def read_keys(paths: Sequence[str]) -> list[Fingerprints]:
    """The keys in files, as the settings' `audit.fingerprint_key` names them; raises `BadInput`."""
    return [_read_key(path) for path in paths]


def _read_key(path: str) -> Fingerprints:
    try:
        return Fingerprints(one_of(path).decode().strip())
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is no text. Name the file of `audit.fingerprint_key`.") from None
    except KeyTooShort as error:
        raise BadInput(f"{path}: {error}. Name the file of `audit.fingerprint_key`.") from None


def token_in(text: bytes) -> Secret:
    """The token in what was piped in, with or without `Bearer`; raises `BadInput`."""
    words = text[: _LONGEST + 1].split()
    if words and words[0].lower() == b"bearer":
        words = words[1:]
    if len(words) != 1 or len(text) > _LONGEST:
        raise BadInput("standard input: holds not exactly one token. Pipe in the token alone.")
    try:
        return Secret(words[0].decode())
    except UnicodeDecodeError:
        raise BadInput("standard input: holds no token, which is ASCII. Pipe in one.") from None


def fingerprints_of(token: Secret, keys: Sequence[Fingerprints]) -> list[str]:
    """The token's fingerprint under each key."""
    return [key.of(token.digest()) for key in keys]


def records_of(sources: Sequence[Source], fingerprints: Sequence[str]) -> Iterator[Found]:
    """The records that hold one of them, each once; raises `BadInput`."""
    with logs(sources) as found:
        for fingerprint in dict.fromkeys(fingerprints):
            for row in found.rows(Wanted(fingerprint=fingerprint)):
                held = row.decision.fingerprints.items()
                names = tuple(name for name, value in held if value == fingerprint)
                yield Found(row=row, tokens=names)
