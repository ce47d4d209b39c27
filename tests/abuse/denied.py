"""What an abuse must come to: a denial of the table, on record once, with nobody's secret in it."""

from collections.abc import Callable
from typing import Any

from ext_authz.reasons import Reason
from tests.abuse.verdicts import assert_no_allow
from tests.pipeline.gateway import Answer, Gateway

Seen = Callable[[str], None]
_SHORTEST_TOKEN = 20  # what is shorter may stand in an answer by chance


async def denied(gateway: Gateway, reason: Reason, **request: Any) -> Answer:
    """The answer to this call: the denial that it has to be."""
    token = request.get("token")
    if isinstance(token, str) and len(token) >= _SHORTEST_TOKEN:
        gateway.user_tokens.append(token)
    answer = await gateway.call(**request)
    check_denial(gateway, answer, reason)
    return answer


async def denied_unproven(gateway: Gateway, reason: Reason, **request: Any) -> Answer:
    """As `denied`, of somebody who has not proven who they are: no token endpoint hears of them."""
    before = exchanges(gateway)
    answer = await denied(gateway, reason, **request)
    (record,) = records_of(gateway, answer)
    assert exchanges(gateway) == before
    assert (record["issuer"], record["subject"]) == (None, None)
    return answer


def check_denial(gateway: Gateway, answer: Answer, reason: Reason) -> None:
    """`answer` denies for `reason`, has one record that says the same, and both give nothing away."""
    assert_no_allow(gateway, answer)
    (record,) = records_of(gateway, answer)
    said = (answer.reason, record["reason"], record["verdict"])
    assert said == (reason, reason, "deny"), said


def records_of(gateway: Gateway, answer: Answer) -> list[dict[str, Any]]:
    """The audit's records of the Check that `answer` answers."""
    return [record for record in gateway.records() if record["decision_id"] == answer.decision_id]


def exchanges(gateway: Gateway) -> tuple[int, int]:
    """How often each leg was walked."""
    return len(gateway.idp.token.calls), len(gateway.authorization_server.token.calls)
