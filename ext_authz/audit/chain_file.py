"""The chain's file: resumed, written, put aside. Everything here blocks: one thread calls it.

No byte of the file is ever taken back. What a crash or a full disk leaves torn is closed by a newline
and named by the record behind it, and the chain goes on from the last whole record.
"""

import contextlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never

import orjson

from ext_authz.audit.append_file import AppendFile, State, append_once, sync_folder
from ext_authz.audit.canonical import canonical
from ext_authz.audit.chain import Head, link
from ext_authz.audit.checkpoint import Signer, Statement
from ext_authz.audit.ocsf import log_event
from ext_authz.audit.tail import newest_head, read_tail, sha256_of
from ext_authz.clock import Clock
from ext_authz.log import Logger, logger
from ext_authz.settings.settings import AuditSettings, Durability

_MEGABYTE: Final = 1024 * 1024
_FIRST_LINE: Final = 16 * 1024
_RETRY_ROTATION_SECONDS: Final = 60.0
_log: Final[Logger] = logger("audit")


class CannotWrite(Exception):
    """The file takes no records now; the message names the fault. The first `written` ones stand."""

    def __init__(self, fault: str, written: int = 0) -> None:
        super().__init__(fault)
        self.written = written


class ChainFile:
    """One file of records, its siblings that were put aside, and the chain through them all."""

    def __init__(self, settings: AuditSettings, signer: Signer | None, clock: Clock) -> None:
        """Opens the file and finds where its chain stands; raises `CannotWrite`."""
        self._settings = settings
        self._path = Path(settings.file)
        self._signer = signer
        self._clock = clock
        self._owed: list[bytes] = []  # the log's own events that stand before the next record
        self._signed = 0  # the number of records that the last checkpoint was behind
        self._brought: list[
            bytes
        ] = []  # lines that are in the file, and that nobody was told of yet
        self._checkpoint_line = b""
        self._next_rotation_try = 0.0
        try:
            self._file: AppendFile | None = AppendFile(self._path)
        except OSError as error:
            raise CannotWrite(f"cannot open {_fault(error, self._path)}") from None
        self._resume(self._file)
        self._signed = self._head.sequence

    def write(self, events: Sequence[bytes]) -> bytes:
        """Puts canonical `events` behind the chain; gives all lines that this brought into the file.

        Returns once they are handed to the kernel, or with `synced` once they are on the disk.
        Raises `CannotWrite`.
        """
        try:
            file = self._file_to_write()
            self._write(file, events)
            if file.is_deleted():  # under our hands, and what we wrote into it as well
                self._write(self._reopen("renamed"), events)
        except OSError as error:
            raise CannotWrite(_fault(error, self._path)) from None
        lines, self._brought = b"".join(self._brought), []
        return lines

    def checkpoint(self) -> bytes:
        """Signs where the chain stands, if it moved since the last time; as `write` otherwise."""
        if self._head.sequence <= self._signed and not self._owed:
            return b""
        return self.write([])

    def close(self) -> bytes:
        """Ends with a checkpoint, and closes the file; gives the lines that this brought into it."""
        lines = b""
        with contextlib.suppress(CannotWrite):
            lines = self.checkpoint()
        if self._file is not None:
            self._file.close()
            self._file = None
        return lines

    # -- where the chain stands

    def _resume(self, file: AppendFile) -> None:
        """From the file's last record; or from its newest sibling's; or a chain of its own."""
        self._begun = self._clock.wall()
        tail = read_tail(file.descriptor, file.size) if file.is_regular else None
        self._whole = tail.whole if tail else 0
        self._is_open = tail.is_open if tail else False
        if tail is not None and tail.head is not None:
            self._begun = _begun(self._path) or self._begun
            self._head = tail.head
            self._owe_opened("resumed")
            return
        found = newest_head(siblings(self._path)) if file.is_regular else None
        self._head = found[1] if found else Head.of_a_new_chain()
        self._owe_opened("resumed" if found else "started", found[0].name if found else None)

    def _owe_opened(self, cause: str, previous: str | None = None) -> None:
        key = self._signer.public_key.public_bytes_raw().hex() if self._signer else None
        self._owe(
            "opened",
            cause=cause,
            durability=self._settings.durability.value,
            previous=previous,
            public_key=key,
        )

    def _owe(self, kind: str, **data: object) -> None:
        self._owed.append(canonical(log_event(kind, data, time=self._clock.wall())))

    # -- which file

    def _file_to_write(self) -> AppendFile:
        """The file as it must stand before the next write; raises `OSError`."""
        if self._file is None:
            return self._reopen("renamed")
        match self._file.state():
            case State.MOVED:
                self._reopen("renamed")
            case State.CUT:
                self._owe("truncated", bytes=self._file.size)
                _log.error("audit_file_truncated", bytes=self._file.size)
                self._file.measure()
                self._whole, self._is_open = self._file.size, not self._file.ends_a_line()
            case State.GROWN:
                # Not excused as torn: whatever it is, `audit verify` is to name it.
                _log.error("audit_file_foreign", bytes=self._file.size)
                self._file.measure()
                self._whole, self._is_open = self._file.size, not self._file.ends_a_line()
            case State.OURS:
                self._rotate_if_due(self._file)
            case never:
                assert_never(never)
        return self._file or self._reopen("renamed")

    def _reopen(self, cause: str, previous: str | None = None) -> AppendFile:
        """The file that stands at the path now, with our chain going on in it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        file = self._file = AppendFile(self._path)
        self._whole, self._is_open = file.size, file.is_regular and not file.ends_a_line()
        self._begun = self._clock.wall()
        self._owe_opened(cause, previous)
        return file

    def _rotate_if_due(self, file: AppendFile) -> None:
        rotation, now = self._settings.rotation, self._clock.wall()
        is_due = (
            file.size >= rotation.megabytes * _MEGABYTE or now - self._begun >= rotation.seconds
        )
        if not is_due or not file.is_regular or not file.size or now < self._next_rotation_try:
            return
        self._next_rotation_try = now + _RETRY_ROTATION_SECONDS
        self._write(file, [])  # with a checkpoint at its end
        aside = self._aside(now)
        try:
            self._path.rename(aside)
            sync_folder(self._path.parent)
        except OSError as error:
            _log.error("audit_rotation_failed", fault=_fault(error, aside))
            return
        self._next_rotation_try = now
        self._reopen("rotated", aside.name)

    def _aside(self, now: float) -> Path:
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"{self._path.stem}-{moment}-{self._head.sequence:012d}{self._path.suffix}"
        return self._path.with_name(name)

    # -- writing

    def _write(self, file: AppendFile, events: Sequence[bytes]) -> None:
        """`events` behind what is owed, and a checkpoint behind them where one is due."""
        torn, owed, begin, first = self._torn(file), self._owed, file.size, self._head.sequence + 1
        batch = self._linked([*torn, *owed, *events], wants_checkpoint=not events)
        is_closed = self._whole == begin and not self._is_open
        fault = file.append((b"" if is_closed else b"\n") + b"".join(line for line, _ in batch))
        done = self._advance(file, begin if is_closed else begin + 1, batch)
        self._owed = owed[max(0, done - len(torn)) :]
        if done and self._settings.durability is Durability.SYNCED:
            self._sync(file, first)
        self._brought += [line for line, _ in batch[:done]]
        if fault is not None:
            written = done - len(torn) - len(owed)
            raise CannotWrite(_fault(fault, self._path), max(0, min(written, len(events))))

    def _torn(self, file: AppendFile) -> list[bytes]:
        """The event that names what is torn at the file's end, if anything is."""
        size = file.size - self._whole
        if not size or not file.is_regular:
            return []
        data = {"bytes": size, "sha256": sha256_of(file.descriptor, self._whole, file.size)}
        return [canonical(log_event("torn", data, time=self._clock.wall()))]

    def _linked(
        self, events: Sequence[bytes], *, wants_checkpoint: bool
    ) -> list[tuple[bytes, Head]]:
        """The lines of `events`, each with the head after it; and behind them a checkpoint if due."""
        batch, head = [], self._head
        for event in events:
            line, head = link(event, head)
            batch.append((line, head))
        if wants_checkpoint or head.sequence - self._signed >= self._settings.checkpoints.records:
            batch.append(link(self._checkpoint(head), head))
            self._checkpoint_line = batch[-1][0]
        return batch

    def _checkpoint(self, head: Head) -> bytes:
        now = self._clock.wall()
        statement = Statement(head, int(now * 1000))
        data = {
            "head": head.fingerprint,
            "sequence": head.sequence,
            "time": statement.time,
            "key_id": self._signer.key_id if self._signer else None,
            "signature": self._signer.sign(statement) if self._signer else None,
        }
        return canonical(log_event("checkpoint", data, time=now))

    def _advance(self, file: AppendFile, begin: int, batch: Sequence[tuple[bytes, Head]]) -> int:
        """Moves on behind the last line that is in the file as a whole; gives how many are."""
        if self._is_open and file.size >= begin:
            self._is_open, self._whole = False, begin
        done, end = 0, begin
        for line, head in batch:
            if end + len(line) > file.size:
                break
            done, end = done + 1, end + len(line)
            self._head, self._whole = head, end
            if line is self._checkpoint_line:
                self._note_checkpoint(line)
        return done

    def _note_checkpoint(self, line: bytes) -> None:
        """Copies the checkpoint to the second file. Its failure is an alarm, and stops nothing."""
        self._signed = self._head.sequence
        second = self._settings.checkpoints.file
        if second is None:
            return
        try:
            append_once(Path(second), line)
        except OSError as error:
            _log.error("audit_checkpoint_file_failed", fault=_fault(error, Path(second)))

    def _sync(self, file: AppendFile, first: int) -> None:
        try:
            file.sync()
        except OSError as error:
            # The kernel tells of it once, and takes the pages for clean: this file is not to be asked again.
            self._owe("unsynced", first=first, last=self._head.sequence)
            file.close()
            self._file = None
            raise CannotWrite(_fault(error, self._path)) from None


def siblings(path: Path) -> list[Path]:
    """The files that were put aside from `path`, by us or by logrotate.

    Not so `audit-10.jsonl` from `audit-1.jsonl`: that is the file of another worker.
    """
    aside = re.compile(re.escape(path.stem) + r"(?![A-Za-z0-9])")
    try:
        names = [found for found in path.parent.iterdir() if aside.match(found.name)]
    except OSError:
        return []
    return [found for found in names if found != path and path.suffix in found.suffixes]


def _begun(path: Path) -> float | None:
    """When the file's first record was made, in seconds since 1970."""
    try:
        with path.open("rb") as file:
            return float(orjson.loads(file.readline(_FIRST_LINE))["time"]) / 1000
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _fault(error: OSError, path: Path) -> str:
    return f"{path}: {error.strerror or 'cannot be written'}"
