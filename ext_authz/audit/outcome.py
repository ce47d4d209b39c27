"""What became of a call, as Envoy's access log tells it: these fields, and nothing else ever.

No path and no header stands here, save the request's id: either may hold a credential.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one call through Envoy.

    `time` is when the call began, in seconds since 1970; `milliseconds` is how long it took as a whole.
    `decision_id` is None where the call carries no decision of ours. `http_status` is what the client
    got, `upstream_status` what the MCP server answered: None where there was no answer.
    `reached_server` says whether any of the request was sent to the MCP server, `is_allowed` whether an
    allow of ours stands behind it. `response_flags` are
    Envoy's short names (`UF`, `DC`, …), `response_code_details` its one-word cause, `access_log_type`
    the name of its enumeration, and `client_address` the peer's. Texts are kept as they are given here:
    whoever makes an Outcome bounds them.
    """

    time: float
    decision_id: str | None
    reached_server: bool
    is_allowed: bool
    http_method: str | None = None
    http_status: int | None = None
    upstream_status: int | None = None
    response_flags: tuple[str, ...] = ()
    response_code_details: str | None = None
    bytes_received: int | None = None
    bytes_sent: int | None = None
    milliseconds: float | None = None
    access_log_type: str | None = None
    route: str | None = None
    upstream_cluster: str | None = None
    request_id: str | None = None
    client_address: str | None = None

    @property
    def is_bypass(self) -> bool:
        """Whether a server was reached that nobody had allowed."""
        return self.reached_server and not self.is_allowed
