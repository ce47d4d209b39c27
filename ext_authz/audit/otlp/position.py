"""How far a receiver has the chain: the last record that it acknowledged, in a small file.

The file is replaced as a whole, but not synced: what a loss of power takes of it is sent twice.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import orjson

from ext_authz.audit.chain import Head
from ext_authz.log import Logger, logger

_MODE: Final = 0o640
_HEX: Final = frozenset("0123456789abcdef")
_log: Final[Logger] = logger("audit")


def position_file(audit_file: Path) -> Path:
    """Where the position in `audit_file` and its siblings is kept."""
    return audit_file.with_name(f"{audit_file.name}.otlp")


def load(path: Path) -> Head | None:
    """The position kept at `path`; None where none is, and everything is still to be sent."""
    try:
        return _head(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError):
        _log.error("audit_otlp_position_unreadable", file=str(path))
        return None


def save(path: Path, head: Head) -> None:
    """Keeps `head` at `path`; raises `OSError`, and then the earlier position stands."""
    new = path.with_name(f"{path.name}.new")
    members = {
        "chain_uid": head.chain_uid,
        "fingerprint": head.fingerprint,
        "sequence": head.sequence,
    }
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    try:
        os.write(descriptor, orjson.dumps(members) + b"\n")
    finally:
        os.close(descriptor)
    try:
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _head(members: dict[str, object]) -> Head:
    uid, sequence, fingerprint = (
        members[name] for name in ("chain_uid", "sequence", "fingerprint")
    )
    if not isinstance(uid, str) or not isinstance(fingerprint, str) or type(sequence) is not int:
        raise TypeError
    if not set(uid + fingerprint) <= _HEX:
        raise ValueError
    return Head(uid, sequence, fingerprint)
