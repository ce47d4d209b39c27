"""The one place that speaks to a Valkey or Redis server: Lua scripts, each in a bounded time.

The client library would do more than it is wanted for. Here it tries nothing twice, and speaks RESP2:
in RESP3 a server could send it to another address.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiocache.backends.redis import RedisCache
from redis.asyncio import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from ext_authz.exchange.shared.breaker import MAX_CALLS, Argument, Unavailable
from ext_authz.settings.secret_source import SecretSource, SecretUnreadable
from ext_authz.settings.settings import SharedCacheSettings

_ONE_MORE_LOOK: Final = 0.001  # seconds: a timer of its own, so that what has arrived comes first


class ValkeyServer:
    """Connections to the server that the settings name. A call opens one where it needs it."""

    def __init__(self, settings: SharedCacheSettings) -> None:
        address = settings.address
        self._seconds = settings.seconds
        self._cache = RedisCache(
            endpoint=address.host,
            port=address.port,
            db=address.database,
            pool_max_size=MAX_CALLS,
            create_connection_timeout=2 * settings.seconds,  # should ours not get through to it
            timeout=None,  # its own, asyncio.wait_for, swallows a cancellation at times before Python 3.12
            connection_pool_class=None if address.path is None else _socket_pool(address.path),
            connection_pool_kwargs=_how(settings),
        )

    async def run(self, script: str, names: Sequence[str], arguments: Sequence[Argument]) -> object:
        """What the script answers, in bytes and whole numbers; raises `Unavailable`."""
        try:
            async with _within(self._seconds):
                return await self._evaluated(script, len(names), *names, *arguments)
        except Exception as error:  # noqa: BLE001 - what a server sends breaks its reader in many ways
            raise Unavailable(_code(error)) from None

    async def _evaluated(self, *arguments: Argument) -> object:
        answer: object = await self._cache.raw("eval", *arguments)
        return answer

    async def close(self) -> None:
        """Closes the connections."""
        with contextlib.suppress(Exception):
            await self._cache.client.aclose()


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, but by as much longer as this process itself was late to look.

    An answer that has arrived is read then, and the server not blamed for what others do here.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(end, lambda: limit.reschedule(2 * loop.time() - end + _ONE_MORE_LOOK))
        try:
            yield
        finally:
            timer.cancel()


def _code(error: Exception) -> str:
    """The kind of fault. Of a password, it is a `ConnectionError` whose cause says more."""
    cause = error.__cause__
    is_told = isinstance(cause, RedisError | SecretUnreadable)
    return type(cause if is_told else error).__name__


class _Password(CredentialProvider):
    """Read anew for each connection, so that a changed one is seen."""

    def __init__(self, source: SecretSource) -> None:
        self._source = source

    def get_credentials(self) -> tuple[str]:
        return (self._source.read().reveal(),)

    async def get_credentials_async(self) -> tuple[str]:
        return self.get_credentials()


class _TlsConnection(SSLConnection):
    """With a context that all share: to read the trusted certificates takes longer than a call may."""

    def __init__(self, *, context: ssl.SSLContext, **how: Any) -> None:
        super().__init__(**how)
        self.ssl_context.context = context


def _how(settings: SharedCacheSettings) -> dict[str, Any]:
    how: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": 2 * settings.seconds,
        "driver_info": None,  # who we are is nobody's business
    }
    if settings.password is not None:
        how["credential_provider"] = _Password(settings.password)
    if settings.address.tls:
        how |= {"connection_class": _TlsConnection, "context": ssl.create_default_context()}
    return how


def _socket_pool(path: str) -> Callable[..., ConnectionPool]:
    def pool(*, host: str, port: int, **kwargs: Any) -> ConnectionPool:  # noqa: ARG001 - it has none
        return ConnectionPool(connection_class=UnixDomainSocketConnection, path=path, **kwargs)

    return pool
