"""More callers of one session than may wait for its exchange."""

import asyncio

from ext_authz.exchange.access_tokens import MAX_WAITERS
from ext_authz.reasons import Reason
from tests.doubles.loopback import Dial
from tests.pipeline.gateway import Gateway


async def test_who_finds_a_thousand_waiting_is_told_to_come_later(gateway: Gateway) -> None:
    gate = asyncio.Event()
    gateway.idp.token.dial = Dial(gate=gate)
    calls = [asyncio.create_task(gateway.call()) for _ in range(MAX_WAITERS + 1)]
    (first, *_), _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    gate.set()
    answers = await asyncio.gather(*calls)

    assert first.result().reason == Reason.EXCHANGE_OVERLOADED
    assert first.result().headers["retry-after"] == "1"
    refused = [answer.reason for answer in answers if not answer.is_allow]
    assert refused.count(Reason.EXCHANGE_OVERLOADED) == 1
    assert len(gateway.idp.token.calls) == 1
