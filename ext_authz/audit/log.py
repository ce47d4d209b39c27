"""The audit log: events in, and back only once they are durable. One group of them is written at a time.

Whatever gathers while a group is being written makes the next one, so that a hundred Checks at once
cost one call to the kernel, or one wait for the disk. The queue lives on the event loop and the file in
a thread of its own: a disk that hangs holds up records, and never the loop.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from ext_authz.audit.canonical import Event, NotCanonical, canonical
from ext_authz.audit.chain_file import CannotWrite, ChainFile
from ext_authz.audit.checkpoint import Signer
from ext_authz.audit.ocsf import log_event
from ext_authz.audit.worker import Worker
from ext_authz.clock import Clock
from ext_authz.log import Logger, logger, place_of
from ext_authz.reasons import Reason
from ext_authz.settings.secret_source import SecretUnreadable
from ext_authz.settings.settings import AuditSettings

MAX_QUEUED: Final = 8192
MAX_GROUP: Final = 1024
HANG_SECONDS: Final = 2.0  # a write that takes longer is a disk that hangs
CLOSE_SECONDS: Final = 5.0
_log: Final[Logger] = logger("audit")


class AuditUnavailable(Exception):
    """The record is not durable; the message names the fault."""

    reason = Reason.AUDIT_UNAVAILABLE


class AuditOverloaded(AuditUnavailable):
    """So many records wait that another would only wait in vain."""

    reason = Reason.AUDIT_OVERLOADED


class AuditSlow(AuditUnavailable):
    """The record was not durable in time. It may still become so, unless it is amended."""

    reason = Reason.AUDIT_SLOW


class Sink(Protocol):
    """A second receiver of the log. It must neither block nor raise."""

    def offer(self, lines: bytes) -> None:
        """Takes lines that are in the file. Called in the log's own thread."""


class Entry:
    """One event on its way. `is_kept` by who entered it: should it fail, it comes again."""

    __slots__ = ("_future", "event", "is_kept", "is_taken")

    def __init__(self, event: bytes, future: "asyncio.Future[None]", *, is_kept: bool) -> None:
        self.event = event
        self.is_kept = is_kept
        self.is_taken = False
        self._future = future

    async def durable(self, *, seconds: float) -> None:
        """Returns once the event is durable; raises `AuditUnavailable`, `AuditSlow` after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._future)
        except TimeoutError:
            raise AuditSlow("not durable in time") from None

    @property
    def is_lost(self) -> bool:
        """Whether the event is known not to be durable."""
        return self._future.done() and self._future.exception() is not None

    def settle(self, fault: str | None) -> None:
        """Tells who waits; without a `fault`, the event is durable."""
        if self._future.done():
            return
        if fault is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(AuditUnavailable(fault))
            self._future.exception()  # nobody may wait any more


class AuditLog:
    """The one way into the audit file."""

    def __init__(
        self,
        settings: AuditSettings,
        clock: Clock,
        *,
        sinks: Sequence[Sink] = (),
        worker: Worker | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        """Opens the file; raises `AuditUnavailable`."""
        self._clock = clock
        self._sinks = sinks
        self._max_queued = max_queued
        self._checkpoint_seconds = settings.checkpoints.seconds
        self._queue: deque[Entry] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._writing_since: float | None = None
        self._fault: str | None = None
        self._lost = 0
        self._lost_since = 0.0
        self._is_closed = False
        try:
            self._file = ChainFile(settings, _signer(settings), clock)
        except CannotWrite as error:
            raise AuditUnavailable(str(error)) from None
        self._worker = worker or Worker("audit")

    def enter(self, event: Event, *, is_kept: bool = False) -> Entry:
        """Queues `event`; raises `AuditUnavailable`, and then nothing will be recorded.

        What `is_kept` to be entered again is not lost when it fails.
        """
        self._refuse_when_hopeless(is_kept=is_kept)
        return self._put(event, is_kept=is_kept)

    def amend(self, entry: Entry, *, instead: Event, correction: Event) -> None:
        """Has the log say what became of an `entry` that was not durable in time.

        `instead` takes its place while it is still queued. Once it is on its way, `correction` follows;
        where it is known to be lost, there is nothing to correct.
        """
        if entry.is_lost:
            return
        try:
            if not entry.is_taken:
                entry.event = canonical(instead)
            elif len(self._queue) < 2 * self._max_queued:
                self._put(correction)
            else:
                self._lose(1)
        except (NotCanonical, AuditUnavailable):
            self._lose(1)

    async def append(self, event: Event, *, seconds: float, is_kept: bool = False) -> None:
        """As `enter`, and returns once `event` is durable; raises `AuditUnavailable`."""
        await self.enter(event, is_kept=is_kept).durable(seconds=seconds)

    async def room(self) -> None:
        """Returns when less than half of the queue is in use: what can wait leaves it to Checks."""
        while len(self._queue) * 2 >= self._max_queued and self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=HANG_SECONDS)

    async def keep_checkpoints(self) -> None:
        """Signs where the chain stands, every so many seconds, until cancelled."""
        while True:
            await self._checkpoint()
            await asyncio.sleep(self._checkpoint_seconds)

    async def close(self) -> None:
        """Writes what is queued, signs, and closes the file; what comes later is refused."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._flushing is not None:
                    await self._flushing
                await self._worker.run(self._end)
        except TimeoutError:
            _log.error("audit_unavailable", fault="the disk hangs", queued=len(self._queue))
        self._worker.stop()

    def _refuse_when_hopeless(self, *, is_kept: bool) -> None:
        since = self._writing_since
        if self._is_closed:
            raise AuditUnavailable("the log is closed")
        if since is not None and self._clock.monotonic() - since > HANG_SECONDS:
            self._lose(0 if is_kept else 1)
            raise AuditSlow("the disk hangs")
        if len(self._queue) >= self._max_queued:
            self._lose(0 if is_kept else 1)
            raise AuditOverloaded("the queue is full")

    def _put(self, event: Event, *, is_kept: bool = False) -> Entry:
        try:
            line = canonical(event)
        except NotCanonical as error:
            raise AuditUnavailable(f"a record cannot be encoded: {error}") from None
        loop = asyncio.get_running_loop()
        entry = Entry(line, loop.create_future(), is_kept=is_kept)
        self._queue.append(entry)
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush())
        return entry

    async def _flush(self) -> None:
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(MAX_GROUP, len(self._queue)))]
                for entry in group:
                    entry.is_taken = True
                await self._write(group)
        finally:
            self._flushing = None

    async def _write(self, group: Sequence[Entry]) -> None:
        lost, owed = self._lost, self._lost_event()
        fault, written = await self._try([*owed, *(entry.event for entry in group)])
        if written >= len(owed):
            self._lost -= lost
        written = max(0, written - len(owed))
        self._tell(fault)
        for entry in group[:written]:
            entry.settle(None)
        for entry in group[written:]:
            entry.settle(fault)
        self._lose(sum(not entry.is_kept for entry in group[written:]))

    async def _try(self, events: Sequence[bytes]) -> tuple[str | None, int]:
        """The fault, if any, and how many of `events` are durable nevertheless."""
        self._writing_since = self._clock.monotonic()
        try:
            await self._worker.run(lambda: self._hand_over(events))
        except CannotWrite as error:
            return str(error), error.written
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            _log.error("audit_failed", exception=type(error).__name__, at=place_of(error))
            return type(error).__name__, 0
        finally:
            self._writing_since = None
        return None, len(events)

    # These three run in the log's thread.

    def _hand_over(self, events: Sequence[bytes]) -> None:
        self._offer(self._file.write(events))

    def _sign(self) -> None:
        self._offer(self._file.checkpoint())

    def _end(self) -> None:
        self._offer(self._file.close())

    def _offer(self, lines: bytes) -> None:
        for sink in self._sinks if lines else ():
            sink.offer(lines)

    async def _checkpoint(self) -> None:
        try:
            await self._worker.run(self._sign)
        except CannotWrite as error:
            self._tell(str(error))

    def _lose(self, number: int) -> None:
        if number and not self._lost:
            self._lost_since = self._clock.wall()
        self._lost += number

    def _lost_event(self) -> list[bytes]:
        """What is owed to the reader once the file takes records again."""
        if not self._lost:
            return []
        data = {"records": self._lost, "since": int(self._lost_since * 1000)}
        return [canonical(log_event("lost", data, time=self._clock.wall()))]

    def _tell(self, fault: str | None) -> None:
        """One alarm when it begins, one when it ends."""
        if fault is not None and fault != self._fault:
            _log.error("audit_unavailable", fault=fault)
        if fault is None and self._fault is not None:
            _log.warning("audit_recovered", lost=self._lost)
        self._fault = fault


def _signer(settings: AuditSettings) -> Signer | None:
    if settings.signing_key is None:
        return None
    try:
        return Signer(settings.signing_key.read().reveal())
    except SecretUnreadable as error:
        raise AuditUnavailable(f"the signing key: {error}") from None
