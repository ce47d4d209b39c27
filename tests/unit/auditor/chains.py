"""Real chains of made-up records, linked and signed by what the service links and signs with."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ext_authz.audit.canonical import Event, canonical
from ext_authz.audit.chain import Head, link
from ext_authz.audit.checkpoint import Signer, Statement
from ext_authz.audit.ocsf import correction_event, decision_event, outcome_event
from ext_authz.audit.ocsf import log_event as ocsf_log_event
from ext_authz.audit.outcome import Outcome
from ext_authz.audit.record import AuditRecord

BEGIN: Final = 1_795_000_000_000  # milliseconds
STEP: Final = 10


def private_pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


PRIVATE: Final = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"audit").digest())
PEM: Final = private_pem(PRIVATE)
PUBLIC_PEM: Final = (
    PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)


def decision(number: int, *, event: str = "decision", **changes: Any) -> Event:
    """The decision of call `number`, some of its fields changed."""
    usual: dict[str, Any] = {
        "time": BEGIN + number * STEP,
        "decision_id": decision_id(number),
        "verdict": "allow",
        "reason": None,
        "detail": None,
        "http_status": None,
        "milliseconds": 1.5 + number % 10,
        "issuer": "https://idp.corp.example",
        "subject": f"user{number % 7}",
        "session": "s-1",
        "agent": "desktop",
        "server": ("crm", "wiki")[number % 2],
        "resource": "https://crm.corp.example/mcp",
        "authorization_server": "https://auth.crm.corp.example",
        "mcp_kind": "request",
        "mcp_method": "tools/call",
        "mcp_target": "create_ticket",
        "mcp_source": "body",
        "mcp_protocol_version": "2026-07-28",
        "rpc_id": number,
        "token_source": "cache",
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
        "request_id": f"r-{number}",
        "traceparent": "00-a-b-01",
    }
    write_event = correction_event if event == "correction" else decision_event
    return write_event(AuditRecord(**(usual | changes)))


def denial(number: int, reason: str = "policy_denied", **changes: Any) -> Event:
    """The denial of call `number`."""
    usual: dict[str, Any] = {
        "verdict": "deny",
        "reason": reason,
        "http_status": 403,
        "token_source": None,
    }
    return decision(number, **(usual | changes))


def outcome(number: int, **changes: Any) -> Event:
    """What became of call `number`."""
    usual: dict[str, Any] = {
        "time": (BEGIN + number * STEP) / 1000,
        "decision_id": decision_id(number),
        "reached_server": True,
        "is_allowed": changes.get("decision_id", "ours") is not None,
        "http_status": 200,
        "upstream_status": 200,
        "milliseconds": 12.5,
        "upstream_cluster": "crm",
    }
    return outcome_event(Outcome(**(usual | changes)))


def log_event(kind: str, number: int, **data: Any) -> Event:
    """An event of the log itself."""
    return ocsf_log_event(kind, data, time=(BEGIN + number * STEP) / 1000)


class Chain:
    """A chain as it grows; `lines` hold their newlines."""

    def __init__(self, *, pem: str | None = PEM, uid: str | None = None) -> None:
        self.head = Head(uid, -1, "0" * 64) if uid else Head.of_a_new_chain()
        self.lines: list[bytes] = []
        self.checkpoints: list[bytes] = []
        self._signer = Signer(pem) if pem else None

    def append(self, event: Event) -> bytes:
        line, self.head = link(canonical(event), self.head)
        self.lines.append(line)
        return line

    def checkpoint(self) -> bytes:
        head, now = self.head, BEGIN + self.head.sequence * STEP
        data: dict[str, Any] = {"head": head.fingerprint, "sequence": head.sequence, "time": now}
        if self._signer is not None:
            data["key_id"] = self._signer.key_id
            data["signature"] = self._signer.sign(Statement(head, now))
        line = self.append(log_event("checkpoint", head.sequence, **data))
        self.checkpoints.append(line)
        return line

    def extend(self, events: Iterable[Event]) -> None:
        for event in events:
            self.append(event)


def chain_of(
    records: int,
    *,
    every: int = 1000,
    event: Callable[[int], Event] = decision,
    pem: str | None = PEM,
) -> Chain:
    """`records` lines, an `opened` first and a checkpoint at each `every`th and at the end."""
    chain = Chain(pem=pem)
    chain.append(log_event("opened", 0, cause="started", durability="written"))
    for number in range(1, records):
        if number % every == 0 or number == records - 1:
            chain.checkpoint()
        else:
            chain.append(event(number))
    return chain


def write(path: Path, lines: Iterable[bytes]) -> str:
    path.write_bytes(b"".join(lines))
    return str(path)


def decision_id(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:32]
