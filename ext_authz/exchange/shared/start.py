"""Runs the shared cache where the settings ask for one, and says so where it cannot work.

What it needs beyond a plain installation is imported only here, and only then.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ext_authz.clock import Clock
from ext_authz.exchange.shared.cache import SharedCache
from ext_authz.exchange.shared.seal import Seals
from ext_authz.settings.sealing_key import sealing_key
from ext_authz.settings.secret_source import SecretSource, SecretUnreadable
from ext_authz.settings.settings import Settings, SharedCacheSettings

if TYPE_CHECKING:
    from ext_authz.exchange.shared.valkey_server import ValkeyServer

_OF_THE_EXTRA: Final = "redis"
_WAIT: Final = 0.75  # of the time for an exchange: the rest of a Check must do for our own


class SharedCacheUnusable(Exception):
    """The cache cannot work here; the message says why and what mends it."""


@asynccontextmanager
async def shared_among_replicas(
    settings: Settings, clock: Clock
) -> AsyncIterator[SharedCache | None]:
    """The shared cache of `settings`, if they name one. Raises `SharedCacheUnusable`.

    A server that cannot be reached is no reason not to start.
    """
    if settings.shared_cache is None:
        yield None
        return
    seals, server = _seals(settings.shared_cache), _server(settings.shared_cache)
    cache = SharedCache(server.run, seals, clock, wait=settings.timeouts.exchange * _WAIT)
    try:
        await cache.look()
        yield cache
    finally:
        await cache.close()
        await server.close()


def _seals(settings: SharedCacheSettings) -> Seals:
    previous = settings.previous_key
    return Seals(_key(settings.key), _key(previous) if previous is not None else None)


def _key(source: SecretSource) -> bytes:
    try:
        return sealing_key(source.read())
    except (SecretUnreadable, ValueError) as error:
        raise SharedCacheUnusable(f"A key of `shared_cache` cannot be used: {error}") from None


def _server(settings: SharedCacheSettings) -> "ValkeyServer":
    try:
        from ext_authz.exchange.shared.valkey_server import ValkeyServer  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != _OF_THE_EXTRA:
            raise
        raise SharedCacheUnusable(
            "`shared_cache` needs a package that is missing: pip install 'mcp-ext-authz[valkey]'"
        ) from None
    return ValkeyServer(settings)
