"""A settings file, and the credentials that it refers to."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.unit.settings.credentials import Credentials, pem

# Every key that the settings know. SECRETS stands for a folder of this test's own.
EVERY_KEY = """\
listen: unix:/run/mcp-ext-authz/check.sock
identity_providers:
- issuer: https://idp.corp.example
  audience: [hub, portal]
  subject_token: access_token
  algorithms: [ES256, RS256]
  token_endpoint: https://idp.corp.example/token
  jwks_uri: https://idp.corp.example/keys
  sign_in_scopes: [openid, email]
  quota: {exchanges: 250, days: 30}
  client:
    id: hub
    auth: private_key_jwt
    key: {file: SECRETS/hub.pem}
    algorithm: ES256
    key_id: hub-1
    assertion_audience: token_endpoint
authorization_servers:
- issuer: https://auth.crm.corp.example
  token_endpoint: https://auth.crm.corp.example/token
  client:
    id: hub-at-crm
    auth: client_secret_basic
    secret: {file: SECRETS/crm}
servers:
  crm:
    url: https://mcp.corp.example/crm/mcp
    resource: https://crm.corp.example/mcp
    authorization_server: https://auth.crm.corp.example
    scopes: [tickets.read, tickets.write]
    match: {host: mcp.corp.example, path_prefix: /crm}
audit:
  file: /var/log/mcp-ext-authz/audit.jsonl
  durability: synced
  signing_key: {file: SECRETS/audit.pem}
  fingerprint_key: {file: SECRETS/fingerprint}
  subject: hmac
  rotate: {megabytes: 64, hours: 12}
  checkpoint: {records: 500, seconds: 30, file: /mnt/witness/checkpoints.jsonl}
  outcome_seconds: 900
  stdout: true
  otlp:
    endpoint: https://collector.corp.example/v1/logs
    headers:
      authorization: {file: SECRETS/collector}
shared_cache:
  url: rediss://valkey.corp.example:6380/2
  password: {file: SECRETS/valkey}
  key: {file: SECRETS/sealing}
  previous_key: {file: SECRETS/sealing.old}
  seconds: 0.1
timeouts:
  check: 6
  exchange: 5.5
  call: 2
"""

WriteSettings = Callable[..., str]


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    """What the settings file refers to: a key for the hub, a secret for the CRM, and so on."""
    made = Credentials(tmp_path)
    made.write("hub.pem", pem(ec.generate_private_key(ec.SECP256R1())))
    made.write("crm", "s3cr3t")
    made.write("audit.pem", pem(ed25519.Ed25519PrivateKey.generate()))
    made.write("fingerprint", "0123456789abcdef" * 4)
    made.write("collector", "Bearer s3cr3t")
    made.write("valkey", "s3cr3t")
    made.write("sealing", bytes(range(32)).hex())
    made.write("sealing.old", base64.b64encode(bytes(range(32, 64))))
    return made


@pytest.fixture
def write_settings(credentials: Credentials, tmp_path: Path) -> WriteSettings:
    """Writes the settings file with one passage changed; gives its path."""

    def write(old: str = "", new: str = "", *, text: str = EVERY_KEY) -> str:
        assert old in text
        file = tmp_path / "settings.yaml"
        changed = text.replace(old, new, 1).replace("SECRETS", str(credentials.folder))
        file.write_bytes(changed.encode())
        return str(file)

    return write
