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
        text = self._from_env() if self.file is None else self._from_file(Path(self.file))
        if not text.strip():
            raise SecretUnreadable("it is empty")
        return Secret(text.strip())

    def _from_env(self) -> str:
        text = os.environ.get(self.env or "")
        if text is None:
            raise SecretUnreadable(f"the environment variable {self.env} is not set")
        return text

    def _from_file(self, path: Path) -> str:
        try:
            _refuse_loose_permissions(path)
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SecretUnreadable(
                f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
            ) from None


def _refuse_loose_permissions(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise SecretUnreadable(
            f"{path} is open to others (mode {stat.S_IMODE(mode):04o}); run chmod 0400 {path}"
        )
