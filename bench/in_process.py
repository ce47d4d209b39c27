"""The service's parts in this process, as `ext_authz.server` builds them, and filled as a day would fill them.

No socket is between: what grows with the number of users, servers and tokens is ours alone.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.requests import tool_call
from ext_authz._protos.external_auth_pb2 import CheckRequest
from ext_authz.access_log.outcomes import Outcomes
from ext_authz.audit.log import AuditLog
from ext_authz.check import Check
from ext_authz.clock import Clock
from ext_authz.demo.front import relocated, secret_files, shipped_yaml
from ext_authz.demo.world import World
from ext_authz.exchange.access_token import AccessToken, Source
from ext_authz.exchange.access_tokens import AccessTokens
from ext_authz.exchange.cache_key import cache_key
from ext_authz.exchange.token_cache import TokenCache
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import Users
from ext_authz.issuers import Issuers
from ext_authz.outbound import Outbound
from ext_authz.request.facts import read_facts
from ext_authz.request.user_token import user_token
from ext_authz.secret import Secret
from ext_authz.server import build_check
from ext_authz.settings.load import load_settings
from ext_authz.settings.settings import IdentityProvider, McpServer, Settings

TOKEN_BYTES: Final = 64
TOKEN_SECONDS: Final = 3600
UNBOUNDED: Final = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """A Check and the access tokens behind it. Users and servers go by their numbers."""

    world: World
    settings: Settings
    check: Check
    users: Users
    access_tokens: AccessTokens
    cache: TokenCache[AccessToken]

    @property
    def provider(self) -> IdentityProvider:
        (provider,) = self.settings.identity_providers.values()
        return provider

    def server(self, number: int) -> McpServer:
        return self.settings.servers[server_name(number)]

    def user(self, number: int) -> VerifiedUser:
        """The user as `Users.verify` gives them, made anew as for a new request."""
        return VerifiedUser(
            provider=self.provider,
            issuer=self.provider.issuer,
            subject=_subject(number),
            session=_session(number),
            acr=None,
            agent=None,
            expires_at=int(time.time()) + TOKEN_SECONDS,
            token=Secret(_session(number)),
        )

    def request(self, user: int, server: int) -> CheckRequest:
        """A call of that user to that server, with a user token that the identity provider signed."""
        now = int(time.time())
        claims = {
            "iss": self.provider.issuer,
            "sub": _subject(user),
            "aud": self.provider.audience[0],
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "auth_time": now,
            "sid": _session(user),
        }
        token = self.world.identity_provider.keys.sign(claims)
        return tool_call(server_name(server), token)

    async def verify(self, request: CheckRequest) -> None:
        """Has the user token of the request remembered, and touches no access token."""
        await self.users.verify(user_token(read_facts(request)))

    async def allow(self, request: CheckRequest) -> None:
        """One Check, which has to be an allow."""
        answer = await self.check(request)
        if not answer.HasField("ok_response"):
            raise RuntimeError(f"denied: {answer}")

    async def keep(self, users: Sequence[int] | range, servers: Sequence[int] | range) -> None:
        """Has an access token in the cache for each of the users at each of the servers."""
        for server in map(self.server, servers):
            for number in users:
                user = self.user(number)
                token = _access_token(user, server)
                await self.cache.put(cache_key(user, server), token, seconds=TOKEN_SECONDS)


@asynccontextmanager
async def in_process(world: World, folder: Path, *, servers: int = 1) -> AsyncIterator[InProcess]:
    """The parts on the shipped settings, with so many servers and without a bound on access tokens.

    Needs an empty `folder` of its own.
    """
    folder.mkdir()  # noqa: ASYNC240 - nothing is measured yet
    clock = Clock()
    with secret_files(world, folder / "secrets"):
        settings = shipped_settings(world, folder, servers=servers)
        async with Outbound(seconds=settings.timeouts.call) as outbound:
            audit = AuditLog(settings.audit, clock)
            outcomes = Outcomes(audit, clock, seconds=settings.audit.outcome_seconds)
            issuers = Issuers(settings, outbound, clock)
            check = build_check(settings, issuers, audit, outcomes, clock)
            try:
                yield _opened(world, settings, check, clock)
            finally:
                await audit.close()


def _opened(world: World, settings: Settings, check: Check, clock: Clock) -> InProcess:
    """Looks inside for the cache, and lifts its bound: no setting does, nor should one."""
    access_tokens = check._access_tokens  # noqa: SLF001
    cache: TokenCache[AccessToken] = TokenCache(clock, max_entries=UNBOUNDED, max_bytes=UNBOUNDED)
    access_tokens._cache = cache  # noqa: SLF001
    return InProcess(
        world=world,
        settings=settings,
        check=check,
        users=check._users,  # noqa: SLF001
        access_tokens=access_tokens,
        cache=cache,
    )


def shipped_settings(world: World, folder: Path, *, servers: int) -> Settings:
    """The shipped settings, with copies of the CRM under other names and resources.

    The `folder` has the secrets, and gets the file.
    """
    file = folder / "envoy.yaml"
    file.write_text(relocated(shipped_yaml().read_text(), world, folder))
    settings = load_settings(str(file))
    crm = settings.servers["crm"]
    copies = {
        server_name(number): replace(
            crm,
            name=server_name(number),
            url=f"{crm.url}/{number}",
            resource=f"{crm.resource}/{number}",
        )
        for number in range(servers)
    }
    return replace(settings, servers=MappingProxyType(copies))


def server_name(number: int) -> str:
    return f"server-{number}"


def _subject(number: int) -> str:
    return f"00u{number:017}"


def _session(number: int) -> str:
    return f"session-{number:012}"


def _access_token(user: VerifiedUser, server: McpServer) -> AccessToken:
    return AccessToken(
        value=Secret(f"{user.subject}-{server.name}".ljust(TOKEN_BYTES, "x")),
        issuer=user.issuer,
        subject=user.subject,
        resource=server.resource,
        scope=server.scopes,
        expires_at=int(time.time()) + TOKEN_SECONDS,
        id_jag_jti=user.subject,
        source=Source.CACHE,
        id_jag_digest=user.token.digest(),
    )
