"""What the operator registered: our clients at the doubles, and the credentials for them."""

from typing import Final

from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import AssertionAudience, AuthMethod, OAuthClient

# Environment variables; a test's fixture sets them.
CREDENTIALS: Final = {
    "HUB_SECRET": "hub secret: 100%/+&=ü",
    "SERVER_SECRET": "server-secret",
}


def client(client_id: str, variable: str, auth: AuthMethod) -> OAuthClient:
    """A client whose credential stands in an environment variable."""
    return OAuthClient(
        id=client_id,
        auth=auth,
        credential=SecretSource(env=variable),
        algorithm="ES256",
        key_id=None,
        assertion_audience=AssertionAudience.ISSUER,
    )


HUB: Final = client("hub", "HUB_SECRET", AuthMethod.CLIENT_SECRET_POST)
HUB_AT_SERVER: Final = client("hub-at-server", "SERVER_SECRET", AuthMethod.CLIENT_SECRET_BASIC)
