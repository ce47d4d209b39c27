"""What is known of one Check that went well: Alice calls a tool of the CRM."""

from typing import Any, Final

from ext_authz.exchange.access_token import AccessToken, Source
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.request.facts import RequestFacts
from ext_authz.request.mcp_message import McpMessage, MessageKind, MessageSource
from ext_authz.secret import Secret
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import (
    AssertionAudience,
    AuthMethod,
    AuthorizationServer,
    IdentityProvider,
    McpServer,
    OAuthClient,
    SubjectToken,
)
from ext_authz.verdict.trail import Trail

DECISION: Final = "01a1b2c3d4e5" + "0" * 20
USER_TOKEN: Final = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
ACCESS_TOKEN: Final = "access-token-of-alice-at-crm"

HUB: Final = OAuthClient(
    id="hub",
    auth=AuthMethod.CLIENT_SECRET_BASIC,
    credential=SecretSource(env="HUB_SECRET"),
    algorithm="",
    key_id=None,
    assertion_audience=AssertionAudience.ISSUER,
)
IDP: Final = IdentityProvider(
    issuer="https://idp.corp.example",
    audience=("hub",),
    subject_token=SubjectToken.ID_TOKEN,
    algorithms=("ES256",),
    client=HUB,
    token_endpoint=None,
    jwks_uri=None,
    sign_in_scopes=("openid", "email"),
)
AUTH: Final = AuthorizationServer(
    issuer="https://auth.crm.corp.example", client=HUB, token_endpoint=None
)
CRM: Final = McpServer(
    name="crm",
    url="https://mcp.corp.example/crm/mcp",
    resource="https://crm.corp.example/mcp",
    authorization_server=AUTH,
    scopes=("tickets.read", "tickets.write"),
)
ALICE: Final = VerifiedUser(
    provider=IDP,
    issuer=IDP.issuer,
    subject="alice",
    session="s-1",
    acr="mfa",
    agent="desktop",
    expires_at=1_795_003_600,
    token=Secret(USER_TOKEN),
)
HER_TOKEN: Final = AccessToken(
    value=Secret(ACCESS_TOKEN),
    issuer=IDP.issuer,
    subject="alice",
    resource=CRM.resource,
    scope=("tickets.read",),
    expires_at=1_795_000_300,
    id_jag_jti="jti-1",
    source=Source.EXCHANGE,
)
CALL: Final = McpMessage(
    kind=MessageKind.REQUEST,
    source=MessageSource.BODY,
    method="tools/call",
    target="create_ticket",
    rpc_id=7,
    protocol_version="2026-07-28",
)


def facts(**changes: Any) -> RequestFacts:
    """The facts of her request, some of them changed."""
    usual: dict[str, Any] = {
        "http_method": "POST",
        "path": "/crm/mcp",
        "query": "",
        "host": "mcp.corp.example",
        "headers": {"authorization": f"Bearer {USER_TOKEN}"},
        "body": b"",
        "extensions": {"mcp.server": "crm"},
        "source_address": "192.0.2.7",
    }
    return RequestFacts(**(usual | changes))


def trail(**changes: Any) -> Trail:
    """The trail of her request, some of it changed; None where a stage has not passed."""
    usual: dict[str, Any] = {
        "decision_id": DECISION,
        "started_wall": 1_795_000_000.25,
        "started_monotonic": 5_000.0,
        "facts": facts(),
        "server": CRM,
        "message": CALL,
        "user": ALICE,
        "token": HER_TOKEN,
    }
    return Trail(**(usual | changes))
