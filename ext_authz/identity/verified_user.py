"""Who asks, once that is proven."""

from dataclasses import dataclass

from ext_authz.secret import Secret
from ext_authz.settings.settings import IdentityProvider


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedUser:
    """Made only by `Users.verify`: a cached access token is reachable through nothing else.

    `session`, `acr` and `agent` (the client that the user token was issued to) are None where the
    token does not say. `expires_at` is in wall-clock seconds.
    """

    provider: IdentityProvider
    issuer: str
    subject: str
    session: str | None
    acr: str | None
    agent: str | None
    expires_at: int
    token: Secret
