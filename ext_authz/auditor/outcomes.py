"""An outcome as a flat value: what became of a call, as Envoy's access log told it."""

from dataclasses import dataclass

from ext_authz.auditor.decisions import StoredEvent
from ext_authz.auditor.typed import checked, text


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome:
    """`time_ms` is in milliseconds since 1970; `decision_id` is None of a call that nobody decided on."""

    time: str
    time_ms: int
    decision_id: str | None
    status: int | None
    upstream_status: int | None
    reached_server: bool
    milliseconds: float | None
    response_flags: tuple[str, ...]
    response_code_details: str | None
    route: str | None
    upstream_cluster: str | None

    @property
    def is_undecided(self) -> bool:
        """Whether a server was reached past this service."""
        return self.reached_server and self.decision_id is None


def outcome_of(event: StoredEvent) -> CallOutcome:
    """The outcome that `event`, of the kind `outcome`, holds; raises as `decision_of`."""
    said = event["unmapped"]["outcome"]
    outcome = CallOutcome(
        time=event["time_dt"],
        time_ms=event["time"],
        decision_id=event["metadata"].get("correlation_uid"),
        status=(event.get("http_response") or {}).get("code"),
        upstream_status=said.get("upstream_status"),
        reached_server=said["reached_server"],
        milliseconds=said.get("milliseconds"),
        response_flags=tuple(map(text, said.get("response_flags") or ())),
        response_code_details=said.get("response_code_details"),
        route=said.get("route"),
        upstream_cluster=said.get("upstream_cluster"),
    )
    return checked(outcome)
