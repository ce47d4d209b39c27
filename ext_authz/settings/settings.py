"""The settings as typed, frozen values. Reading and checking them is `load.py`'s subject."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.valkey_url import ValkeyAddress


class SubjectToken(StrEnum):
    """What the user token is, and so what leg 1 names as `subject_token_type`."""

    ID_TOKEN = "id_token"
    ACCESS_TOKEN = "access_token"


class AuthMethod(StrEnum):
    """How we authenticate at a token endpoint (OpenID Connect Core 1.0 section 9)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"
    CLIENT_SECRET_POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"


class AssertionAudience(StrEnum):
    """The `aud` of our client assertion: the issuer (rfc7523bis), or what older servers expect."""

    ISSUER = "issuer"
    TOKEN_ENDPOINT = "token_endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """Our registration at one issuer: `credential` is a secret or, for private_key_jwt, a PEM key."""

    id: str
    auth: AuthMethod
    credential: SecretSource
    algorithm: str
    key_id: str | None
    assertion_audience: AssertionAudience


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """So many ID-JAGs in so many days, for each user and each client at an authorization server."""

    exchanges: int
    days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProvider:
    """An issuer of user tokens and ID-JAGs, and how its tokens are to be read.

    `quota` changes nothing in what it issues: it is no part of the printed form, which cached tokens
    are kept under.
    """

    issuer: str
    audience: tuple[str, ...]
    subject_token: SubjectToken
    algorithms: tuple[str, ...]
    client: OAuthClient
    token_endpoint: str | None
    jwks_uri: str | None
    sign_in_scopes: tuple[str, ...]
    quota: Quota | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """An issuer of access tokens for MCP servers, and our client there."""

    issuer: str
    client: OAuthClient
    token_endpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Where the route cannot name the server: requests to `host` under `path_prefix` are for it."""

    host: str
    path_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """An upstream. `url` is where clients reach it through Envoy, `resource` its own identifier."""

    name: str
    url: str
    resource: str
    authorization_server: AuthorizationServer
    scopes: tuple[str, ...]
    match: Match | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds. `check` bounds a whole Check, `exchange` both legs, `call` one HTTP call."""

    check: float
    exchange: float
    call: float


class Durability(StrEnum):
    """What "recorded" means before an allow leaves: in the kernel's hands, or on the disk."""

    WRITTEN = "written"
    SYNCED = "synced"


class SubjectForm(StrEnum):
    """How the audit names a user: as the identity provider does, or by a keyed hash of it."""

    PLAIN = "plain"
    HMAC = "hmac"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When the audit file is put aside and another begun: by its size, or by its age in seconds."""

    megabytes: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """How often the chain is signed: every so many records, or seconds; `file` gets copies."""

    records: int
    seconds: float
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpSink:
    """An OpenTelemetry collector's `/v1/logs`, and the headers that it wants."""

    endpoint: str
    headers: Mapping[str, SecretSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What the audit keeps, where, and how surely. Times are in seconds."""

    file: str
    durability: Durability
    signing_key: SecretSource | None
    fingerprint_key: SecretSource | None
    subject: SubjectForm
    rotation: Rotation
    checkpoints: Checkpoints
    outcome_seconds: float
    stdout: bool
    otlp: OtlpSink | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCacheSettings:
    """The server through which replicas share access tokens, and the keys that these are sealed with.

    What was sealed with `previous_key` can be opened. `seconds` bounds each call.
    """

    address: ValkeyAddress
    password: SecretSource | None
    key: SecretSource
    previous_key: SecretSource | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the service was told. The mappings are keyed by issuer, and by server name.

    With several workers, address and files may hold the place of a worker's number: `workers.for_worker`.
    """

    listen: str
    identity_providers: Mapping[str, IdentityProvider]
    authorization_servers: Mapping[str, AuthorizationServer]
    servers: Mapping[str, McpServer]
    audit: AuditSettings
    timeouts: Timeouts
    workers: int = 1
    shared_cache: SharedCacheSettings | None = None
