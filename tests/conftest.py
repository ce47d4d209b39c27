"""The doubles, running on loopback."""

import signal
import ssl
from collections.abc import AsyncIterator

import pytest

from ext_authz.outbound import Outbound
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import CREDENTIALS

# Who starts tests in the background of a script has SIGINT ignored, and every process that a test starts
# would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def time() -> MovableTime:
    return MovableTime()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our clients' credentials, where their registrations refer to them."""
    for variable, credential in CREDENTIALS.items():
        monkeypatch.setenv(variable, credential)


@pytest.fixture
async def idp(time: MovableTime, credentials: None) -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(time) as idp:
        yield idp


@pytest.fixture
async def authorization_server(
    idp: IdentityProvider, time: MovableTime
) -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer(idp, time) as authorization_server:
        yield authorization_server


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """Trusts no certificate at all: loading the machine's takes longer than a test."""
    async with Outbound(seconds=20, context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as outbound:
        yield outbound
