"""Where a credential comes from: never the YAML, since Envoy shows its configuration in dumps."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ext_authz.secret import Secret


class SecretUnreadable(Exception):
    """The credential cannot be had; the message says why and how to mend it, never its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """A reference to a credential: an environment variable or a file, exactly one of them."""

    env: str | None = None
    file: str | None = None

    def read(self) -> Secret:
        """The credential as it stands now; a changed file is seen. Raises `SecretUnreadable`."""
        raw = _from_env(self.env or "") if self.file is None else _from_file(Path(self.file))
        try:
            text = raw.decode("utf-8", errors="strict").strip()
        except UnicodeDecodeError:
            raise SecretUnreadable("it is not UTF-8") from None
        if not text:
            raise SecretUnreadable("it is empty")
        return Secret(text)


def _from_env(name: str) -> bytes:
    raw = os.environb.get(name.encode())
    if raw is None:
        raise SecretUnreadable(f"the environment variable {name} is not set")
    return raw


def _from_file(path: Path) -> bytes:
    try:
        _refuse_loose_permissions(path)
        return path.read_bytes()
    except OSError as error:
        raise SecretUnreadable(f"cannot read {path}: {error.strerror}") from None


def _refuse_loose_permissions(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise SecretUnreadable(
            f"{path} is open to others (mode {stat.S_IMODE(mode):04o}); run chmod 0400 {path}"
        )
