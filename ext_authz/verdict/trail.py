"""What is known of one Check so far: filled in as the stages pass, read by answer and audit."""

import secrets
from dataclasses import dataclass
from typing import Final

from ext_authz.clock import Clock
from ext_authz.exchange.access_token import AccessToken
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.request.facts import RequestFacts
from ext_authz.request.mcp_message import McpMessage
from ext_authz.settings.settings import McpServer

_RANDOM_BITS: Final = 80
_PRODUCTS: Final[dict[str, type]] = {
    "facts": RequestFacts,
    "server": McpServer,
    "message": McpMessage,
    "user": VerifiedUser,
    "token": AccessToken,
}


@dataclass(slots=True, kw_only=True)
class Trail:
    """The stages' products, each None until its stage has passed."""

    decision_id: str
    started_wall: float
    started_monotonic: float
    facts: RequestFacts | None = None
    server: McpServer | None = None
    message: McpMessage | None = None
    user: VerifiedUser | None = None
    token: AccessToken | None = None

    def __setattr__(self, name: str, value: object) -> None:
        """Takes no stray: answer and record are written from what stands here, denials too."""
        if value is not None and not isinstance(value, _PRODUCTS.get(name, object)):
            raise TypeError(f"{name} is not what its stage gives")
        object.__setattr__(self, name, value)

    @classmethod
    def begin(cls, clock: Clock) -> "Trail":
        """The trail of a Check that begins now."""
        wall = clock.wall()
        return cls(
            decision_id=_decision_id(wall),
            started_wall=wall,
            started_monotonic=clock.monotonic(),
        )

    def milliseconds(self, clock: Clock) -> float:
        """How long the Check has taken so far."""
        return (clock.monotonic() - self.started_monotonic) * 1000


def _decision_id(wall: float) -> str:
    """Sorts by time, and cannot be guessed from another: milliseconds, then random bits, in hex."""
    return f"{int(wall * 1000):012x}{secrets.randbits(_RANDOM_BITS):020x}"
