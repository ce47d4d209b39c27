"""What every denial of the threat list must be: of the table, on record, and silent about secrets."""

from collections.abc import Callable

from tests.pipeline.gateway import Answer, Gateway

Seen = Callable[[str], None]
DeniedWith = Callable[[Answer, str], None]
ANSWER_MEMBERS = {"jsonrpc", "id", "error"}


def assert_denied(gateway: Gateway, answer: Answer, reason: str) -> None:
    """A denial with this reason and one record, which nobody behind the service heard of."""
    assert_no_allow(gateway, answer)
    (record,) = (r for r in gateway.records() if r["decision_id"] == answer.decision_id)
    assert (answer.reason, record["reason"], record["verdict"]) == (reason, reason, "deny")
    assert gateway.idp.token.calls == []
    assert gateway.authorization_server.token.calls == []


def assert_no_allow(gateway: Gateway, answer: Answer) -> None:
    """Envoy is told no in both of its ways, and neither answer nor audit holds a secret."""
    wire, audit = answer.response.SerializeToString(), gateway.audit_file.read_bytes()
    assert answer.response.status.code != 0
    assert answer.response.WhichOneof("http_response") == "denied_response"
    assert answer.metadata["verdict"] == "deny"
    assert answer.body.keys() == ANSWER_MEMBERS
    for secret in map(str.encode, gateway.secrets()):
        assert secret not in wire
        assert secret not in audit
