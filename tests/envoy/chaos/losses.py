"""The loss of a replica under load, and its return."""

import asyncio
import signal
from typing import Final

from tests.envoy.chaos.gateway import Gateway, Replica
from tests.envoy.chaos.load import Borne, Load, borne

SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)


async def lose_under_load(
    gate: Gateway, how: signal.Signals, *, before: float, away: float, after: float
) -> Borne:
    """A replica goes by the signal `how`, is away, and comes back; with seconds for each."""
    load = Load(gate.url, (*await gate.warm_users(), gate.stranger()))
    async with load.going():
        await asyncio.sleep(before)
        await _lose(gate.replicas[0], how, away)
        await asyncio.sleep(after)
    return borne(load.answers, gate.upstream)


async def _lose(replica: Replica, how: signal.Signals, away: float) -> None:
    replica.process.send_signal(how)
    await asyncio.sleep(away)
    if how is signal.SIGSTOP:
        replica.process.send_signal(signal.SIGCONT)
    else:
        await replica.stop()
        await replica.start()
