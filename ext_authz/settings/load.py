"""From the YAML file to `Settings`: every fault at once, each with its line, its key and the fix."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from ext_authz.outbound import is_loopback
from ext_authz.settings.audit_settings import read_audit
from ext_authz.settings.envoy_yaml import settings_of
from ext_authz.settings.oauth_client import read_client
from ext_authz.settings.quota import read_quota
from ext_authz.settings.settings import (
    AuthorizationServer,
    IdentityProvider,
    Match,
    McpServer,
    Settings,
    SubjectToken,
    Timeouts,
)
from ext_authz.settings.shared_cache_settings import read_shared_cache
from ext_authz.settings.url import needed_url, optional_url
from ext_authz.settings.workers import of_worker, read_workers, refuse_shared
from ext_authz.settings.yaml_cursor import (
    Cursor,
    Faults,
    SettingsInvalid,
    open_yaml,
    parse_yaml,
)

SIGNATURE_ALGORITHMS: Final = ("ES256", "ES384", "ES512", "EdDSA", "PS256", "RS256")
MAX_TIMEOUT_SECONDS: Final = 60
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749 section 3.3
_PREFIX: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
_TCP: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
Issuer = TypeVar("Issuer", IdentityProvider, AuthorizationServer)


def load_settings(file: str) -> Settings:
    """Reads `file`, an Envoy bootstrap or the settings mapping alone.

    Raises `SettingsInvalid` with every fault that was found.
    """
    return read_settings(settings_of(open_yaml(file)))


def load_document(document: bytes, file: str) -> Settings:
    """As `load_settings`, where what stands in `file` was read already."""
    return read_settings(settings_of(parse_yaml(document, Faults(file))))


def read_settings(root: Cursor) -> Settings:
    """The settings under `root`; raises `SettingsInvalid`."""
    workers = read_workers(root)
    identity_providers = _by_issuer(root, "identity_providers", _identity_provider)
    authorization_servers = _by_issuer(root, "authorization_servers", _authorization_server)
    settings = Settings(
        listen=_listen(root, workers),
        identity_providers=MappingProxyType(identity_providers),
        authorization_servers=MappingProxyType(authorization_servers),
        servers=MappingProxyType(_servers(root, authorization_servers)),
        audit=read_audit(root),
        timeouts=_timeouts(root),
        workers=workers,
        shared_cache=read_shared_cache(root),
    )
    refuse_shared(root, workers)
    root.refuse_unknown()
    if root.faults.found:
        raise SettingsInvalid(root.faults.found)
    return settings


def _by_issuer(
    root: Cursor, name: str, read: Callable[[Cursor], Issuer | None]
) -> dict[str, Issuer]:
    member = root.need(name, "List at least one.")
    entries = list(member.items()) if member else []
    if member and not entries:
        member.fault("is empty", "List at least one.")
    found: dict[str, Issuer] = {}
    for entry in entries:
        value = read(entry) if entry.is_mapping() else None
        if value and value.issuer in found:
            entry.fault("repeats the issuer of another entry", "Keep one entry for it.")
        if value:
            found[value.issuer] = value
    return found


def _identity_provider(item: Cursor) -> IdentityProvider | None:
    issuer = needed_url(item, "issuer", "Copy `issuer` from its metadata, to the letter.")
    audience = item.need("audience", "List the `aud` values that user tokens carry: [hub].")
    provider = IdentityProvider(
        issuer=issuer,
        audience=audience.texts() if audience else (),
        subject_token=_subject_token(item),
        algorithms=_algorithms(item),
        client=read_client(item),
        token_endpoint=optional_url(item, "token_endpoint"),
        jwks_uri=optional_url(item, "jwks_uri"),
        sign_in_scopes=_scopes(item, "sign_in_scopes"),
        quota=read_quota(item),
    )
    item.refuse_unknown()
    if audience is not None and not provider.audience:
        audience.fault("is empty", "List the `aud` values that user tokens carry.")
    return provider if issuer else None


def _subject_token(item: Cursor) -> SubjectToken:
    member = item.get("subject_token")
    default = SubjectToken.ID_TOKEN
    return member.choice(SubjectToken, default) if member else default


def _algorithms(item: Cursor) -> tuple[str, ...]:
    member = item.get("algorithms")
    if member is None:
        return SIGNATURE_ALGORITHMS
    algorithms = member.texts()
    if not algorithms or not set(algorithms) <= set(SIGNATURE_ALGORITHMS):
        member.fault("names an unusable algorithm", f"Use of: {', '.join(SIGNATURE_ALGORITHMS)}.")
    return algorithms


def _authorization_server(item: Cursor) -> AuthorizationServer | None:
    issuer = needed_url(item, "issuer", "Copy `issuer` from its metadata, to the letter.")
    server = AuthorizationServer(
        issuer=issuer,
        client=read_client(item),
        token_endpoint=optional_url(item, "token_endpoint"),
    )
    item.refuse_unknown()
    return server if issuer else None


def _servers(
    root: Cursor, authorization_servers: dict[str, AuthorizationServer]
) -> dict[str, McpServer]:
    # An empty catalogue is fine: routes may spell their servers out.
    member = root.get("servers")
    if member is None or not member.is_mapping():
        return {}
    servers: dict[str, McpServer] = {}
    for name in member.names():
        item = member.need(name, "Give its url, resource and authorization_server.")
        if item is None or not item.is_mapping():
            continue
        if not _NAME.fullmatch(name):
            item.fault("is not a usable name", "Use letters, digits, `.`, `_` and `-`.")
        server = _server(name, item, authorization_servers)
        if server is not None:
            _refuse_ambiguous(item, server, servers.values())
            servers[name] = server
    return servers


def _refuse_ambiguous(item: Cursor, server: McpServer, others: Iterable[McpServer]) -> None:
    """Two servers at one address: which of them a request is for would be a matter of order."""
    for other in others:
        if server.url == other.url:
            item.fault(f"has the url of {other.name}", "Give each server an address of its own.")
        if server.match is not None and server.match == other.match:
            item.fault(f"has the match of {other.name}", "Give each server a path of its own.")


def _server(
    name: str, item: Cursor, authorization_servers: dict[str, AuthorizationServer]
) -> McpServer | None:
    issuer = item.need("authorization_server", "Name one of `authorization_servers` by issuer.")
    found = authorization_servers.get(issuer.text()) if issuer else None
    if issuer is not None and found is None:
        issuer.fault("is no issuer of `authorization_servers`", "Compare them to the letter.")
    url = needed_url(item, "url", "Give the address at which clients reach it through Envoy.")
    resource = needed_url(item, "resource", "Copy `resource` from its protected resource metadata.")
    scopes = _scopes(item, "scopes")
    match = _match(item)
    item.refuse_unknown()
    if found is None:
        return None
    return McpServer(
        name=name,
        url=url,
        resource=resource,
        authorization_server=found,
        scopes=scopes,
        match=match,
    )


def _match(item: Cursor) -> Match | None:
    member = item.get("match")
    if member is None or not member.is_mapping():
        return None
    host = member.need("host", "Give the host name that clients use.")
    prefix = member.need("path_prefix", "Give the path under which the server stands: /crm.")
    match = Match(
        host=host.text().lower() if host else "", path_prefix=prefix.text() if prefix else ""
    )
    if prefix and not _PREFIX.fullmatch(match.path_prefix):
        prefix.fault("is not a plain path", "Write it as /crm, without a slash at the end.")
    member.refuse_unknown()
    return match


def _scopes(item: Cursor, name: str) -> tuple[str, ...]:
    member = item.get(name)
    return tuple(dict.fromkeys(_scope(entry) for entry in member.items())) if member else ()


def _scope(entry: Cursor) -> str:
    scope = entry.text()
    if not _SCOPE.fullmatch(scope):
        entry.fault("is not a scope", "Write one scope an entry, without spaces.")
    return scope


def _listen(root: Cursor, workers: int) -> str:
    member = root.need("listen", "Give `unix:/path/check.sock` or `127.0.0.1:9191`.")
    text = member.text() if member else ""
    for number in range(1, workers + 1):
        if member:
            _check_address(member, of_worker(text, number))
    return text


def _check_address(member: Cursor, text: str) -> None:
    if not text.startswith("unix:"):
        _check_tcp(member, text)
    elif not Path(text.removeprefix("unix:")).is_absolute():
        member.fault("is not an absolute path", "Write unix:/run/mcp-ext-authz/check.sock.")


def _check_tcp(member: Cursor, text: str) -> None:
    """Plain gRPC carries user tokens: it stays on this machine."""
    found = _TCP.fullmatch(text)
    if not found or int(found[2]) > 65535:  # noqa: PLR2004 - the largest port
        member.fault("is no address", "Write unix:/path or 127.0.0.1:9191.")
    elif not is_loopback(found[1].strip("[]")):
        member.fault("is not a loopback address", "Listen on a Unix socket or on 127.0.0.1.")


def _timeouts(root: Cursor) -> Timeouts:
    member = root.get("timeouts")
    read = {"check": 5.0, "exchange": 4.0, "call": 3.0}
    if member is not None and member.is_mapping():
        for name, default in read.items():
            value = member.get(name)
            read[name] = value.seconds(most=MAX_TIMEOUT_SECONDS) if value else default
        member.refuse_unknown()
    return Timeouts(check=read["check"], exchange=read["exchange"], call=read["call"])
