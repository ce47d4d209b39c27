"""Credentials on disk, as an operator provides them."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)


class Credentials:
    """A folder of secret files, each readable by its owner alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str | bytes, *, mode: int = 0o400) -> Path:
        file = self.folder / name
        file.unlink(missing_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        file.chmod(mode)
        return file


def pem(key: PrivateKeyTypes, *, password: bytes | None = None) -> str:
    """The key as PKCS#8 PEM."""
    locked = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked).decode()
