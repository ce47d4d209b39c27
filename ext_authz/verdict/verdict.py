"""What a Check comes to: one of three, and nothing else."""

from dataclasses import dataclass

from ext_authz.exchange.access_token import AccessToken
from ext_authz.leg import Leg
from ext_authz.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The request goes on, with this token in place of the user's. There is no allow without one."""

    token: AccessToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """The request ends here. `detail` is for the operator; `retry_after`, in seconds, overrides.

    `legs` are the requests of the exchange that came to this, for the audit.
    """

    reason: Reason
    detail: str = ""
    retry_after: int | None = None
    legs: tuple[Leg, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The request is for a document of ours, and this is its JSON; it never reaches the server."""

    body: bytes


Verdict = Allow | Deny | Document
