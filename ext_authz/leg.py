"""One request of an exchange, as the audit keeps it: how it went, and nothing that a provider said in words."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Leg `number` 1 (at the identity provider) or 2 (at the authorization server).

    `status` is the HTTP status, None where no answer came; `error` the OAuth error code of a refusal
    (RFC 6749 section 5.2), None where there was none. `milliseconds` includes finding the endpoint.
    What was granted stands only where the answer was accepted: `scope`, and of leg 1 the ID-JAG's
    `jti` and the SHA-256 of it; `expires_at` is in seconds since 1970.
    """

    number: int
    milliseconds: float
    status: int | None = None
    error: str | None = None
    scope: tuple[str, ...] = ()
    jti: str | None = None
    expires_at: int | None = None
    id_jag_digest: bytes | None = field(default=None, repr=False)
