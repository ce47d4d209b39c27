"""A decision as a flat value: what stands where in its OCSF event is known here alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from ext_authz.auditor.typed import checked, text

StoredEvent = Mapping[str, Any]

UNKNOWN: Final = "Unknown"  # where OCSF wants a member and nothing is known
DECISIONS: Final = frozenset({"decision", "correction"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLeg:
    """One request of an exchange. `expires_at` is in seconds since 1970; None: not known."""

    leg: int | None
    status: int | None
    error: str | None
    milliseconds: float | None
    scope: str | None
    jti: str | None
    expires_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided of one Check, its texts as they are stored; None: not known or not applicable.

    `time` is RFC 3339 in UTC, `time_ms` the same in milliseconds since 1970, `token_expires_at` in
    seconds since 1970. `rpc_id` has the type that it had in JSON-RPC.
    """

    time: str
    time_ms: int
    decision_id: str
    verdict: str
    is_correction: bool
    reason: str | None
    detail: str | None
    http_status: int | None
    milliseconds: float
    issuer: str | None
    subject: str | None
    session: str | None
    agent: str | None
    server: str | None
    resource: str | None
    authorization_server: str | None
    mcp_kind: str | None
    mcp_method: str | None
    mcp_target: str | None
    mcp_source: str | None
    mcp_protocol_version: str | None
    rpc_id: str | int | None
    token_source: str | None
    scope: str | None
    id_jag_jti: str | None
    token_expires_at: int | None
    http_method: str | None
    path: str | None
    source_address: str | None
    request_id: str | None
    traceparent: str | None
    version: str | None
    legs: tuple[DecisionLeg, ...] = ()
    fingerprints: Mapping[str, str] = field(
        default_factory=dict
    )  # of user_token, id_jag, access_token


def decision_of(event: StoredEvent) -> Decision:
    """The decision that `event`, of the kind `decision` or `correction`, holds.

    Raises `KeyError` where one of its required members is missing, `TypeError` or `AttributeError` where
    one is of another type.
    """
    actor, api, request = _part(event, "actor"), _part(event, "api"), _part(event, "http_request")
    metadata, unmapped = event["metadata"], event["unmapped"]
    mcp, exchange = _part(unmapped, "mcp"), _part(unmapped, "exchange")
    user = _part(actor, "user")
    decision = Decision(
        time=event["time_dt"],
        time_ms=event["time"],
        decision_id=metadata["correlation_uid"],
        verdict=unmapped["decision"]["verdict"],
        is_correction=unmapped["event"] == "correction",
        reason=event.get("status_code"),
        detail=event.get("status_detail"),
        http_status=unmapped.get("reason_status"),
        milliseconds=unmapped["milliseconds"],
        issuer=user.get("domain"),
        subject=user.get("uid"),
        session=_part(actor, "session").get("uid"),
        agent=actor.get("app_uid"),
        server=_part(api, "service").get("name"),
        resource=_part(api, "service").get("uid"),
        authorization_server=exchange.get("authorization_server"),
        mcp_kind=mcp.get("kind"),
        mcp_method=_method(api.get("operation")),
        mcp_target=_target(event),
        mcp_source=mcp.get("source"),
        mcp_protocol_version=api.get("version"),
        rpc_id=_rpc_id(_part(api, "request").get("uid"), mcp.get("rpc_id_type")),
        token_source=exchange.get("source"),
        scope=exchange.get("scope"),
        id_jag_jti=exchange.get("id_jag_jti"),
        token_expires_at=exchange.get("expires_at"),
        http_method=request.get("http_method") or unmapped.get("http_method"),
        path=_part(request, "url").get("path"),
        source_address=_address(_part(event, "src_endpoint")),
        request_id=request.get("uid"),
        traceparent=unmapped["decision"].get("traceparent"),
        version=_part(metadata, "product").get("version"),
        legs=tuple(_leg(leg) for leg in exchange.get("legs", ())),
        fingerprints={name: text(each) for name, each in _part(unmapped, "fingerprints").items()},
    )
    return checked(decision)


def read_decisions(path: Path | str) -> list[Decision]:
    """The decisions in a file, in its order; a correction stands in the place of what it corrects.

    A last line that is still being written is left out. Raises `OSError`, and `ValueError` where a
    line is no event.
    """
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return decisions_among(orjson.loads(line) for line in lines)


def decisions_among(events: Iterable[StoredEvent]) -> list[Decision]:
    """As `read_decisions`, from events."""
    found: dict[str, Decision] = {}
    for event in events:
        if event["unmapped"]["event"] in DECISIONS:
            decision = decision_of(event)
            found[decision.decision_id] = decision
    return list(found.values())


def _part(event: StoredEvent, name: str) -> StoredEvent:
    part: StoredEvent = event.get(name) or {}
    return part


def _method(operation: str | None) -> str | None:
    """OCSF wants an operation even where there is none."""
    return None if operation == UNKNOWN else operation


def _target(event: StoredEvent) -> str | None:
    resources: Sequence[StoredEvent] = event.get("resources") or ()
    return resources[0].get("name") if resources else None


def _address(endpoint: StoredEvent) -> str | None:
    """A peer is named where it has no IP address, as one behind a Unix socket."""
    name: str | None = endpoint.get("name")
    return endpoint.get("ip") or (None if name == UNKNOWN else name)


def _rpc_id(text: str | None, kind: str | None) -> str | int | None:
    """JSON-RPC's `id` may be a number or a string; OCSF has strings only."""
    return int(text) if text is not None and kind == "number" else text


def _leg(leg: StoredEvent) -> DecisionLeg:
    read = DecisionLeg(
        leg=leg.get("leg"),
        status=leg.get("status"),
        error=leg.get("error"),
        milliseconds=leg.get("milliseconds"),
        scope=leg.get("scope"),
        jti=leg.get("jti"),
        expires_at=leg.get("expires_at"),
    )
    return checked(read)
