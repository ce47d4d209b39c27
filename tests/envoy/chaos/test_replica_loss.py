"""One of two replicas goes under load and comes back: no user notices, and nobody else gets in."""

import signal

import pytest

from tests.envoy.chaos.both_sides import count
from tests.envoy.chaos.gateway import Gateway
from tests.envoy.chaos.losses import SIGNALS, lose_under_load

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
async def test_a_lost_replica_is_noticed_by_no_user(gate: Gateway, how: signal.Signals) -> None:
    borne = await lose_under_load(gate, how, before=1, away=2, after=1)
    allowed = {answer.decision_id for answer in borne.answers if answer.status == 200}
    counted = count(gate)
    refused = {(a.status, a.reason) for a in borne.answers if not a.caller.subject}

    assert borne.errors == []
    assert borne.wrong_allows == []
    assert refused == {(401, "token_signature_invalid")}
    assert counted.missing == set()
    assert allowed <= counted.allowed
    assert len(allowed) == len(gate.upstream.heard) > 200
