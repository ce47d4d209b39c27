"""How long tokens live at each provider, in seconds: their defaults in 2026, as far as we know them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """`user_token`: after so long the client gets a new one. `access_token`: what leg 2 returns."""

    provider: str
    user_token: int
    access_token: int


PROVIDERS: Final = (
    Lifetimes(provider="okta", user_token=3600, access_token=3600),
    Lifetimes(provider="keycloak", user_token=300, access_token=300),
    Lifetimes(provider="auth0", user_token=36_000, access_token=86_400),
    # 60 to 90 minutes for what a user signs in with, an hour for what it is traded for
    Lifetimes(provider="entra", user_token=4500, access_token=3600),
)
