"""The audit log: one JSON line for each Check, in the file before an allow leaves.

"Written" means handed to the kernel: the record survives the death of this process.
"""

import json
import os
from pathlib import Path
from typing import Final

import orjson

from ext_authz.audit.record import AuditRecord

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE: Final = 0o640


class AuditUnavailable(Exception):
    """The record could not be written; the message names the fault."""


class AuditLog:
    """Appends records to one file."""

    def __init__(self, file: str) -> None:
        path = Path(file)
        try:
            self._descriptor = os.open(path, _FLAGS, _MODE)
            self._is_torn = _ends_torn(path)
        except OSError as error:
            raise AuditUnavailable(f"cannot open {path}: {error.strerror}") from None

    def append(self, record: AuditRecord) -> None:
        """Writes `record`; once this returns, it is in the file. Raises `AuditUnavailable`."""
        try:
            line = _line(record)
        except (orjson.JSONEncodeError, TypeError):
            raise AuditUnavailable("a record cannot be encoded") from None
        try:
            if self._is_torn:
                self._write(b"\n")
            self._write(line)
        except OSError as error:
            raise AuditUnavailable(error.strerror or "cannot write") from None

    def close(self) -> None:
        """Closes the file; what comes later is refused, and not written to whatever is opened next."""
        os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, line: bytes) -> None:
        """All of `line`. What stays torn by a full disk ends before the next record begins."""
        rest = memoryview(line)
        while rest:
            written = os.write(self._descriptor, rest)
            self._is_torn = written < len(rest)
            rest = rest[written:]


def _line(record: AuditRecord) -> bytes:
    """Printable ASCII: a name that looks like another, or steers a terminal, shows as its escapes."""
    line = orjson.dumps(record)
    if not line.isascii():
        line = json.dumps(orjson.loads(line), separators=(",", ":")).encode()
    return line.replace(b"\x7f", rb"\u007f") + b"\n"


def _ends_torn(path: Path) -> bool:
    """Whether a process died while it wrote the last line."""
    if path.is_char_device() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
