"""What the audit keeps of a Check, and what it can never keep."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.audit.record import MAX_TEXT, AuditRecord, Recorder
from ext_authz.leg import Leg
from ext_authz.reasons import Reason
from ext_authz.request.mcp_message import MessageSource
from ext_authz.secret import Secret
from ext_authz.settings.settings import SubjectForm
from ext_authz.verdict.answers import ANSWERS
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Allow, Deny, Document, Verdict
from tests.unit.trails import (
    ACCESS_TOKEN,
    ALICE,
    CALL,
    CRM,
    DECISION,
    HER_TOKEN,
    USER_TOKEN,
    facts,
    trail,
)

ALLOW = Allow(token=HER_TOKEN)
CANARY = "canary-7f3a"
STAGES = ("facts", "server", "message", "user", "token")
text = st.text(st.characters(codec="utf-8"))


KEYED = Recorder(Fingerprints("a fingerprint key, 32 characters"))
REDEEMED = Leg(number=1, status=200, milliseconds=3.5, jti="jti-9", id_jag_digest=b"9" * 32)
REFUSED = Leg(number=2, status=400, error="invalid_grant", milliseconds=1.25)


def record_of(given_trail: Trail, verdict: Verdict = ALLOW) -> dict[str, Any]:
    """The record, by its fields."""
    return asdict(Recorder().record(given_trail, verdict, milliseconds=12.3456))


def keyed(given_trail: Trail, verdict: Verdict = ALLOW) -> AuditRecord:
    """The record with fingerprints."""
    return KEYED.record(given_trail, verdict, milliseconds=12.3456)


def test_an_allow_is_recorded_with_these_fields_and_no_others() -> None:
    headers = {"x-request-id": "r-1", "traceparent": "00-a-b-01", "authorization": "Bearer x"}

    assert record_of(trail(facts=facts(headers=headers))) == {
        "time": 1_795_000_000_250,
        "decision_id": DECISION,
        "verdict": "allow",
        "reason": None,
        "detail": None,
        "http_status": None,
        "milliseconds": 12.346,
        "issuer": "https://idp.corp.example",
        "subject": "alice",
        "session": "s-1",
        "agent": "desktop",
        "server": "crm",
        "resource": "https://crm.corp.example/mcp",
        "authorization_server": "https://auth.crm.corp.example",
        "mcp_kind": "request",
        "mcp_method": "tools/call",
        "mcp_target": "create_ticket",
        "mcp_source": "body",
        "mcp_protocol_version": "2026-07-28",
        "rpc_id": 7,
        "token_source": "exchange",
        "scope": "tickets.read",
        "id_jag_jti": "jti-1",
        "token_expires_at": 1_795_000_300,
        "legs": (),
        "user_token_fingerprint": None,
        "id_jag_fingerprint": None,
        "access_token_fingerprint": None,
        "http_method": "POST",
        "path": "/crm/mcp",
        "source_address": "192.0.2.7",
        "request_id": "r-1",
        "traceparent": "00-a-b-01",
    }


def test_a_denial_before_anything_is_known_is_recorded_too() -> None:
    nothing_yet = trail(**dict.fromkeys(STAGES))
    found = record_of(nothing_yet, Deny(reason=Reason.REQUEST_MALFORMED, detail="no method"))

    assert {name: value for name, value in found.items() if value is not None} == {
        "time": 1_795_000_000_250,
        "decision_id": DECISION,
        "verdict": "deny",
        "reason": "request_malformed",
        "detail": "no method",
        "http_status": 403,
        "milliseconds": 12.346,
        "legs": (),
    }


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.ABANDONED])
def test_a_denial_has_its_reason_and_the_status_that_the_caller_saw(reason: Reason) -> None:
    found = record_of(trail(), Deny(reason=reason))

    assert (found["verdict"], found["reason"]) == ("deny", reason.value)
    assert found["http_status"] == ANSWERS[reason].status


def test_a_check_that_was_given_up_is_no_denial() -> None:
    assert record_of(trail(), Deny(reason=Reason.ABANDONED))["verdict"] == "abandoned"


def test_a_document_is_recorded_as_one() -> None:
    found = record_of(trail(message=None, user=None, token=None), Document(body=b"{}"))

    assert (found["verdict"], found["server"], found["subject"]) == ("document", "crm", None)


def test_nothing_else_of_the_request_is_kept() -> None:
    """Each place that a secret may stand in and that no field is made from holds a canary."""
    headers = dict.fromkeys(["authorization", "cookie", "x-any", "mcp-session-id"], CANARY)
    full = trail(
        facts=facts(
            query=CANARY,
            host=CANARY,
            headers=headers,
            body=CANARY.encode(),
            extensions={"a": CANARY},
        ),
        server=replace(CRM, url=CANARY, scopes=(CANARY,)),
        user=replace(ALICE, token=Secret(CANARY), acr=CANARY),
        token=replace(HER_TOKEN, value=Secret(CANARY)),
    )

    assert CANARY not in str(record_of(full))


def test_no_token_of_a_whole_check_is_kept() -> None:
    line = str(record_of(trail()))

    assert USER_TOKEN not in line
    assert ACCESS_TOKEN not in line


@pytest.mark.parametrize(
    "changes",
    [
        {"facts": facts(path=f"/crm/{USER_TOKEN}")},
        {"facts": facts(path=f"/crm/{USER_TOKEN.replace('.', '%2e')}")},
        {"facts": facts(http_method=USER_TOKEN)},
        {"facts": facts(headers={"x-request-id": USER_TOKEN})},
        {"facts": facts(headers={"traceparent": f"00-{USER_TOKEN}"})},
        {"message": replace(CALL, method=USER_TOKEN)},
        {"message": replace(CALL, target=f"file:///{USER_TOKEN}")},
        {"message": replace(CALL, rpc_id=USER_TOKEN)},
    ],
)
def test_a_token_that_the_client_put_elsewhere_is_not_kept(changes: dict[str, Any]) -> None:
    line = str(record_of(trail(**changes)))

    assert "***" in line
    assert USER_TOKEN.rpartition(".")[2] not in line


def test_what_only_looks_a_little_like_a_token_is_kept() -> None:
    found = record_of(trail(facts=facts(path="/surveyJson/mcp")))

    assert found["path"] == "/surveyJson/mcp"


@pytest.mark.parametrize(
    ("changes", "field", "most"),
    [
        ({"facts": facts(path="/" * 9999)}, "path", MAX_TEXT),
        ({"facts": facts(http_method="X" * 9999)}, "http_method", MAX_TEXT),
        ({"facts": facts(headers={"x-request-id": "r" * 9999})}, "request_id", 128),
        ({"facts": facts(headers={"traceparent": "t" * 9999})}, "traceparent", 128),
        ({"message": replace(CALL, method="m" * 9999)}, "mcp_method", MAX_TEXT),
        ({"message": replace(CALL, target="t" * 9999)}, "mcp_target", MAX_TEXT),
        ({"message": replace(CALL, rpc_id="i" * 9999)}, "rpc_id", MAX_TEXT),
    ],
)
def test_a_clients_text_is_cut(changes: dict[str, Any], field: str, most: int) -> None:
    assert len(record_of(trail(**changes))[field]) == most


def test_a_long_detail_is_cut() -> None:
    found = record_of(trail(), Deny(reason=Reason.INTERNAL, detail="x" * 9999))

    assert len(found["detail"]) == MAX_TEXT


def test_where_a_header_told_the_method_the_record_says_so() -> None:
    message = replace(CALL, source=MessageSource.HEADER)

    assert record_of(trail(message=message))["mcp_source"] == "header"


@given(path=text, target=st.none() | text, rpc_id=st.none() | text | st.integers(-9, 9), id_=text)
def test_any_text_can_be_recorded(
    path: str, target: str | None, rpc_id: str | int | None, id_: str
) -> None:
    found = record_of(
        trail(
            facts=facts(path=path, headers={"x-request-id": id_}),
            message=replace(CALL, target=target, rpc_id=rpc_id),
        )
    )

    assert found["path"] == (path[:MAX_TEXT] or None)
    assert found["mcp_target"] == (target[:MAX_TEXT] if target else None)


# ---- legs


def test_an_allow_has_the_legs_that_its_token_cost() -> None:
    token = replace(HER_TOKEN, legs=(REDEEMED,))

    record = keyed(trail(token=token), Allow(token=token))

    assert record.legs == (REDEEMED,)


def test_a_denial_has_the_legs_that_came_to_it() -> None:
    deny = Deny(reason=Reason.ID_JAG_REFUSED, legs=(REDEEMED, REFUSED))

    assert keyed(trail(token=None), deny).legs == (REDEEMED, REFUSED)


def test_a_denial_after_the_token_was_there_has_the_tokens_legs() -> None:
    """A record that could not be written in time takes nothing away from what was exchanged."""
    given_trail = trail(token=replace(HER_TOKEN, legs=(REDEEMED,)))

    assert keyed(given_trail, Deny(reason=Reason.AUDIT_SLOW)).legs == (REDEEMED,)


# ---- fingerprints


def test_each_token_of_an_allow_has_its_fingerprint() -> None:
    digest = Secret("the id-jag").digest()
    record = keyed(trail(token=replace(HER_TOKEN, id_jag_digest=digest)))

    fingerprints = KEYED.fingerprints
    assert fingerprints is not None
    assert record.user_token_fingerprint == fingerprints.of(Secret(USER_TOKEN).digest())
    assert record.access_token_fingerprint == fingerprints.of(Secret(ACCESS_TOKEN).digest())
    assert record.id_jag_fingerprint == fingerprints.of(digest)


def test_an_id_jag_that_was_obtained_in_vain_has_one_too() -> None:
    """It may leak as well as another, and nobody has spent it."""
    second = replace(REDEEMED, id_jag_digest=b"8" * 32)
    legs = (REDEEMED, REFUSED, second, REFUSED)
    record = keyed(trail(token=None), Deny(reason=Reason.ID_JAG_REFUSED, legs=legs))

    assert KEYED.fingerprints is not None
    assert record.id_jag_fingerprint == KEYED.fingerprints.of(b"8" * 32)
    assert record.access_token_fingerprint is None


def test_a_token_that_was_not_verified_has_none() -> None:
    record = keyed(trail(user=None, token=None), Deny(reason=Reason.TOKEN_EXPIRED))

    assert record.user_token_fingerprint is None


# ---- subjects


def test_a_hashed_subject_stands_in_the_place_of_the_name() -> None:
    record = replace(KEYED, subject=SubjectForm.HMAC).record(trail(), ALLOW, milliseconds=1)

    assert KEYED.fingerprints is not None
    assert record.subject == KEYED.fingerprints.of_subject("https://idp.corp.example", "alice")
    assert "alice" not in str(record)


def test_subjects_are_not_hashed_without_a_key() -> None:
    with pytest.raises(ValueError, match="no fingerprint key"):
        Recorder(None, SubjectForm.HMAC)
