"""Many writers at once, at full speed, and what the log promised them."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ext_authz.audit.log import AuditLog

WRITERS = 32
SECONDS = 30.0


def named(number: int) -> Mapping[str, Any]:
    return {"name": str(number), "unmapped": {"event": "decision"}}


class Writing:
    """What was appended, and is durable by the log's word."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers = itertools.count()
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def to(self, log: AuditLog) -> AsyncIterator["Writing"]:
        """So many writers append, each one record after the other, while the block runs."""
        async with asyncio.TaskGroup() as writers:
            for _ in range(WRITERS):
                writers.create_task(self._write(log))
            try:
                yield self
            finally:
                self._stop.set()

    async def _write(self, log: AuditLog) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            await log.append(named(number), seconds=SECONDS)
            self.names.append(str(number))


@contextlib.asynccontextmanager
async def writing(log: AuditLog) -> AsyncIterator[Writing]:
    """Writes at full speed until the block ends, and closes the log."""
    try:
        async with Writing().to(log) as written:
            yield written
    finally:
        await log.close()
