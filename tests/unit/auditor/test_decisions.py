"""The flat view of a decision gives back what was recorded."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from ext_authz.audit.canonical import canonical
from ext_authz.auditor.decisions import Decision, decision_of, read_decisions
from ext_authz.leg import Leg
from tests.unit.auditor.chains import (
    BEGIN,
    Chain,
    decision,
    decision_id,
    denial,
    outcome,
    write,
)


def flat(event: Any) -> Decision:
    return decision_of(orjson.loads(canonical(event)))


def test_each_field_is_what_was_recorded() -> None:
    leg = Leg(
        number=1, status=200, error=None, milliseconds=3.25, scope=("a", "b"), jti="j", expires_at=9
    )
    found = asdict(flat(decision(3, legs=(leg,), user_token_fingerprint="k:1")))

    assert found == {
        "time": "2026-11-18T11:06:40.030+00:00",
        "time_ms": BEGIN + 30,
        "decision_id": decision_id(3),
        "verdict": "allow",
        "is_correction": False,
        "reason": None,
        "detail": None,
        "http_status": None,
        "milliseconds": 4.5,
        "issuer": "https://idp.corp.example",
        "subject": "user3",
        "session": "s-1",
        "agent": "desktop",
        "server": "wiki",
        "resource": "https://crm.corp.example/mcp",
        "authorization_server": "https://auth.crm.corp.example",
        "mcp_kind": "request",
        "mcp_method": "tools/call",
        "mcp_target": "create_ticket",
        "mcp_source": "body",
        "mcp_protocol_version": "2026-07-28",
        "rpc_id": 3,
        "token_source": "cache",
        "scope": "tickets.read",
        "id_jag_jti": "jti-1",
        "token_expires_at": 1_795_000_300,
        "http_method": "POST",
        "path": "/crm/mcp",
        "source_address": "192.0.2.7",
        "request_id": "r-3",
        "traceparent": "00-a-b-01",
        "version": found["version"],
        "legs": (
            {
                "leg": 1,
                "status": 200,
                "error": None,
                "milliseconds": 3.25,
                "scope": "a b",
                "jti": "j",
                "expires_at": 9,
            },
        ),
        "fingerprints": {"user_token": "k:1"},
    }


@pytest.mark.parametrize("rpc_id", [0, -7, "7", "", "a b", None])
def test_the_id_of_json_rpc_has_the_type_that_it_had(rpc_id: str | int | None) -> None:
    found = flat(decision(1, rpc_id=rpc_id)).rpc_id

    assert found == rpc_id
    assert type(found) is type(rpc_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source_address", None),
        ("source_address", "/run/envoy.sock"),
        ("http_method", "BREW"),
        ("http_method", None),
        ("mcp_target", None),
        ("mcp_method", None),
        ("subject", None),
        ("server", None),
        ("path", None),
        ("request_id", None),
        ("authorization_server", None),
    ],
)
def test_what_ocsf_puts_elsewhere_comes_back(field: str, value: str | None) -> None:
    changes: dict[str, Any] = {field: value}

    assert getattr(flat(denial(1, **changes)), field) == value


def test_a_denial_has_its_reason_and_status() -> None:
    found = flat(denial(1, detail="not assigned"))

    assert (found.verdict, found.reason, found.detail, found.http_status) == (
        "deny",
        "policy_denied",
        "not assigned",
        403,
    )


def test_a_file_gives_its_decisions_and_corrections_in_their_place(tmp_path: Path) -> None:
    chain = Chain()
    chain.extend([decision(1), decision(2), outcome(1), denial(1, event="correction")])
    chain.checkpoint()
    path = write(tmp_path / "a", [*chain.lines, b'{"half'])

    found = read_decisions(path)

    assert [(each.decision_id, each.verdict) for each in found] == [
        (decision_id(1), "deny"),
        (decision_id(2), "allow"),
    ]
    assert [each.is_correction for each in found] == [True, False]
