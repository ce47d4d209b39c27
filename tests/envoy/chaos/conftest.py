"""Room for a thousand connections, and a gateway that most tests share."""

import resource
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.envoy.chaos.gateway import Gateway, gateway

DESCRIPTORS = 8192


@pytest.fixture(scope="session", autouse=True)
def room_for_connections() -> Iterator[None]:
    """Raises this process's limit on descriptors, and so that of the processes it starts."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, room), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway that outlives each test; who breaks something of it mends it too."""
    async with gateway(tmp_path_factory.mktemp("gateway")) as shared:
        yield shared


@pytest.fixture
def gate(shared: Gateway) -> Gateway:
    """It, its upstream having heard nothing yet."""
    shared.upstream.heard.clear()
    return shared
