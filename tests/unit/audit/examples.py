"""One event of every reason code and of every kind, as the service writes them.

`python -m tests.unit.audit.examples` writes docs/audit-examples.jsonl, an audit file like any other, and
the parts of docs/audit.md that are made of it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ext_authz.audit.canonical import Event, canonical
from ext_authz.audit.chain import Head, link
from ext_authz.audit.checkpoint import Signer, Statement
from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.audit.ocsf import (
    correction_event,
    decision_event,
    log_event,
    outcome_event,
    outcome_missing_event,
)
from ext_authz.audit.outcome import Outcome
from ext_authz.audit.record import AuditRecord, Recorder
from ext_authz.exchange.access_token import Source
from ext_authz.leg import Leg
from ext_authz.reasons import Reason
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Allow, Deny, Document, Verdict
from tests.unit.trails import HER_TOKEN, USER_TOKEN, facts, trail

DOCS: Final = Path(__file__).parents[3] / "docs"
PAGE: Final = DOCS / "audit.md"
FILE: Final = DOCS / "audit-examples.jsonl"
KEY: Final = "a fingerprint key for examples only"
NOW: Final = 1_795_000_000.25
ID_JAG_DIGEST: Final = bytes(range(32))

LEG_1: Final = Leg(
    number=1,
    status=200,
    milliseconds=31.25,
    scope=("tickets.read", "tickets.write"),
    jti="jti-1",
    expires_at=1_795_000_060,
    id_jag_digest=ID_JAG_DIGEST,
)
LEG_2: Final = Leg(
    number=2, status=200, milliseconds=12.5, scope=("tickets.read",), expires_at=1_795_000_300
)
TOKEN: Final = replace(HER_TOKEN, id_jag_digest=ID_JAG_DIGEST)
EXCHANGED: Final = replace(TOKEN, legs=(LEG_1, LEG_2))

# How far each Check came before it was denied: the stages that had not passed.
NOTHING: Final = ("facts", "server", "message", "user", "token")
THE_REQUEST: Final = ("server", "message", "user", "token")
THE_SERVER: Final = ("message", "user", "token")
THE_MESSAGE: Final = ("user", "token")
THE_USER: Final = ("token",)
ALL: Final[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a denial comes about: what was still missing, what the operator is told, the legs made."""

    missing: tuple[str, ...]
    detail: str = ""
    legs: tuple[Leg, ...] = ()


def _leg_1(status: int | None, error: str | None = None) -> Leg:
    return Leg(number=1, status=status, error=error, milliseconds=28.125)


def _leg_2(status: int | None, error: str | None = None) -> Leg:
    return Leg(number=2, status=status, error=error, milliseconds=9.75)


def _refused_at_1(error: str) -> Case:
    detail = f"{error}, status 400"
    return Case(missing=THE_USER, detail=detail, legs=(_leg_1(400, error),))


def _refused_at_2(error: str) -> Case:
    detail = f"{error}, status 400"
    return Case(missing=THE_USER, detail=detail, legs=(LEG_1, _leg_2(400, error)))


def _at_1(status: int | None, detail: str) -> Case:
    return Case(missing=THE_USER, detail=detail, legs=(_leg_1(status),))


def _at_2(status: int | None, detail: str) -> Case:
    return Case(missing=THE_USER, detail=detail, legs=(LEG_1, _leg_2(status)))


CASES: Final[Mapping[Reason, Case]] = {
    Reason.REQUEST_MALFORMED: Case(missing=NOTHING, detail="no method, or no absolute path"),
    Reason.HTTP_METHOD_REFUSED: Case(missing=THE_SERVER),
    Reason.SERVER_UNKNOWN: Case(missing=THE_REQUEST),
    Reason.MESSAGE_MALFORMED: Case(missing=THE_SERVER, detail="not JSON-RPC 2.0"),
    Reason.MESSAGE_HEADER_MISMATCH: Case(
        missing=THE_SERVER, detail="Mcp-Method is not the body's method"
    ),
    Reason.TOKEN_MISSING: Case(missing=THE_MESSAGE),
    Reason.TOKEN_MALFORMED: Case(missing=THE_MESSAGE),
    Reason.TOKEN_ISSUER_UNKNOWN: Case(missing=THE_MESSAGE),
    Reason.TOKEN_SIGNATURE_INVALID: Case(missing=THE_MESSAGE),
    Reason.TOKEN_EXPIRED: Case(missing=THE_MESSAGE),
    Reason.TOKEN_AUDIENCE_WRONG: Case(missing=THE_MESSAGE),
    Reason.TOKEN_CLAIMS_INVALID: Case(missing=THE_MESSAGE, detail="a required claim is missing"),
    Reason.ISSUER_KEYS_UNAVAILABLE: Case(
        missing=THE_MESSAGE, detail="the issuer's keys cannot be fetched"
    ),
    Reason.SUBJECT_TOKEN_REFUSED: _refused_at_1("invalid_grant"),
    Reason.SIGN_IN_LOOP: Case(missing=THE_USER, detail="subject_token_refused"),
    Reason.STEP_UP_REQUIRED: _refused_at_1("insufficient_user_authentication"),
    Reason.POLICY_DENIED: _refused_at_1("access_denied"),
    Reason.SCOPE_DENIED: _refused_at_1("invalid_scope"),
    Reason.HUB_CLIENT_REFUSED: _refused_at_1("invalid_client"),
    Reason.IDP_UNAVAILABLE: _at_1(None, "could not connect"),
    Reason.IDP_RATE_LIMITED: _at_1(429, "status 429"),
    Reason.IDP_ANSWER_INVALID: _at_1(200, "issued_token_type is not id-jag"),
    Reason.ID_JAG_INVALID: _at_1(200, "the ID-JAG: aud"),
    Reason.ID_JAG_REFUSED: Case(
        missing=THE_USER,
        detail="invalid_grant, status 400",
        legs=(
            LEG_1,
            _leg_2(400, "invalid_grant"),
            replace(LEG_1, jti="jti-2"),
            _leg_2(400, "invalid_grant"),
        ),
    ),
    Reason.RESOURCE_REFUSED: _refused_at_2("invalid_target"),
    Reason.USER_NOT_PROVISIONED: _refused_at_2("access_denied"),
    Reason.SERVER_CLIENT_REFUSED: _refused_at_2("invalid_client"),
    Reason.AS_UNAVAILABLE: _at_2(500, "status 500"),
    Reason.AS_RATE_LIMITED: _at_2(429, "status 429"),
    Reason.AS_METADATA_INVALID: _at_2(None, "the metadata names another issuer"),
    Reason.AS_ANSWER_INVALID: _at_2(200, "more scope was granted than requested"),
    Reason.DEADLINE_EXCEEDED: _at_2(None, "the exchange took too long"),
    Reason.EXCHANGE_OVERLOADED: Case(
        missing=THE_USER, detail="too many wait for this exchange already"
    ),
    Reason.AUDIT_UNAVAILABLE: Case(missing=ALL),
    Reason.AUDIT_OVERLOADED: Case(missing=ALL),
    Reason.AUDIT_SLOW: Case(missing=ALL),
    Reason.INTERNAL: Case(missing=THE_USER, detail="KeyError"),
    Reason.ABANDONED: Case(missing=THE_USER),
}
HEADERS: Final = {
    "authorization": f"Bearer {USER_TOKEN}",
    "x-request-id": "6f1f6a1e-3c1c-4d59-9d0c-0a2c5ed6f6d1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
FACTS: Final = facts(headers=HEADERS)
REACHED: Final = Outcome(
    time=NOW,
    decision_id="",
    reached_server=True,
    is_allowed=True,
    http_method="POST",
    http_status=200,
    upstream_status=200,
    response_code_details="via_upstream",
    bytes_received=112,
    bytes_sent=348,
    milliseconds=58.5,
    access_log_type="DownstreamEnd",
    route="crm",
    upstream_cluster="crm",
    request_id=HEADERS["x-request-id"],
    client_address="192.0.2.7",
)
SIGNING_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))  # for examples only
PEM: Final = SIGNING_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
TORN: Final = b'{"action":"Allowed","action_id":1,"activity_id":99,"activity_na'
CHAIN: Final = replace(Head.of_a_new_chain(), chain_uid="0" * 32)


def checkpoint(head: Head) -> Mapping[str, object]:
    """What a checkpoint says behind `head`."""
    signer, statement = Signer(PEM), Statement(head, int(NOW * 1000))
    return {
        "head": head.fingerprint,
        "sequence": head.sequence,
        "time": statement.time,
        "key_id": signer.key_id,
        "signature": signer.sign(statement),
    }


LOG: Final[Mapping[str, Mapping[str, object]]] = {
    "opened": {
        "cause": "started",
        "durability": "written",
        "public_key": SIGNING_KEY.public_key().public_bytes_raw().hex(),
    },
    "checkpoint": checkpoint(CHAIN),
    "torn": {"bytes": len(TORN), "sha256": hashlib.sha256(TORN).hexdigest()},
    "truncated": {"bytes": 1_048_576},
    "lost": {"records": 12, "since": 1_795_000_030_000},
    "unsynced": {"first": 42, "last": 57},
}


def whole_trail(decision_id: str, missing: tuple[str, ...] = ()) -> Trail:
    """Alice's call of a tool, without the stages that are `missing`."""
    usual = {"decision_id": decision_id, "facts": FACTS, "token": TOKEN}
    return trail(**(usual | dict.fromkeys(missing)))


def denial(reason: Reason, number: int = 0) -> AuditRecord:
    """The record of a Check that was denied for `reason`."""
    case = CASES[reason]
    given = whole_trail(_decision_id(number), case.missing)
    if reason is Reason.HTTP_METHOD_REFUSED:
        given.facts = replace(FACTS, http_method="PROPFIND")
    return recorded(given, Deny(reason=reason, detail=case.detail, legs=case.legs))


def recorded(given: Trail, verdict: Verdict) -> AuditRecord:
    return Recorder(Fingerprints(KEY)).record(given, verdict, milliseconds=61.5)


def allowed(source: Source, number: int = 0) -> AuditRecord:
    """The record of a Check that was allowed with a token come by in this way."""
    token = replace(TOKEN if source is Source.CACHE else EXCHANGED, source=source)
    given = whole_trail(_decision_id(number))
    given.token = token
    return recorded(given, Allow(token=token))


def examples() -> dict[str, Event]:
    """Every example by its name: a reason code, or a kind of event."""
    return {name: _pinned(event, n) for n, (name, event) in enumerate(_examples())}


def _examples() -> Iterator[tuple[str, Event]]:
    yield "opened", log_event("opened", LOG["opened"], time=NOW)
    for number, source in enumerate(Source):
        yield f"allow ({source})", decision_event(allowed(source, number))
    document = whole_trail(_decision_id(10), ("message", "user", "token"))
    yield "document", decision_event(recorded(document, Document(body=b"{}")))
    for number, reason in enumerate(Reason, start=100):
        yield reason.value, decision_event(denial(reason, number))
    late = whole_trail(_decision_id(1))
    yield "correction", correction_event(recorded(late, Deny(reason=Reason.AUDIT_SLOW)))
    reached = replace(REACHED, decision_id=_decision_id(0))
    yield "outcome", outcome_event(reached)
    yield (
        "outcome without a decision",
        outcome_event(replace(REACHED, decision_id=None, is_allowed=False)),
    )
    unreached = replace(
        reached,
        reached_server=False,
        http_status=503,
        upstream_status=None,
        response_flags=("UF",),
        response_code_details="upstream_reset_before_response_started{connection_failure}",
    )
    yield "outcome of a call that reached nothing", outcome_event(unreached)
    missing = outcome_missing_event(_decision_id(2), seconds=3600, time=NOW + 3600)
    yield "outcome_missing", missing
    for kind, data in LOG.items():
        if kind != "opened":
            yield kind, log_event(kind, data, time=NOW)


def _pinned(event: Event, number: int) -> Event:
    """The event without what differs from run to run, and from version to version."""
    metadata: dict[str, Any] = dict(event["metadata"])  # type: ignore[call-overload]
    metadata["uid"] = f"{number:032x}"
    metadata["product"] = metadata["product"] | {"version": "1.2.3"}
    return {**event, "metadata": metadata}


def _decision_id(number: int) -> str:
    return f"01a1f3e2c4fa{number:020x}"


def records() -> list[bytes]:
    """The examples as lines of one chain, without their newlines."""
    head, written = CHAIN, []
    for number, (name, event) in enumerate(examples().items()):
        if name == "checkpoint":
            event = _pinned(log_event(name, checkpoint(head), time=NOW), number)  # noqa: PLW2901
        line, head = link(canonical(event), head)
        written.append(line.rstrip(b"\n"))
    return written


def lines() -> bytes:
    """The examples as a file of the audit, with the torn line that one of them names."""
    torn = next(n for n, line in enumerate(records()) if b'"event":"torn"' in line)
    written = records()
    return b"\n".join([*written[:torn], TORN, *written[torn:], b""])


def page(text: str) -> str:
    """The page `text` with the parts that are made of the examples."""
    names = list(examples())
    whole = json.loads(records()[names.index(Reason.POLICY_DENIED.value)])
    rows = [_row(reason, names.index(reason.value) + 1) for reason in Reason]
    head = ["| reason | status | disposition | detail | legs | line |", "|---|---|---|---|---|---|"]
    text = _filled(text, "reasons", "\n".join([*head, *rows]))
    return _filled(text, "whole", f"```json\n{json.dumps(whole, indent=2)}\n```")


def _row(reason: Reason, line: int) -> str:
    event: Any = examples()[reason.value]
    legs = ", ".join(
        f"{leg.number}: {leg.status or '–'} {leg.error or ''}".strip()  # noqa: RUF001 - a dash
        for leg in CASES[reason].legs
    )
    cells = (f"`{reason}`", event["unmapped"]["reason_status"], event["disposition"])
    return "| " + " | ".join(map(str, (*cells, event["status_detail"] or "", legs, line))) + " |"


def _filled(text: str, part: str, content: str) -> str:
    found = re.search(rf"(<!-- {part}: .*? -->\n).*?(<!-- end -->)", text, re.DOTALL)
    assert found is not None
    return text[: found.start()] + f"{found[1]}{content}\n{found[2]}" + text[found.end() :]


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    FILE.write_bytes(lines())
    PAGE.write_text(page(PAGE.read_text()))
