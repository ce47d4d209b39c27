"""What the parts list builds for each issuer that the settings name."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.exchange.legs import Legs
from ext_authz.issuers import Issuers
from ext_authz.outbound import Outbound
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import AuditSettings, Quota, Settings, Timeouts
from tests.doubles.audit_settings import quiet
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime

KEY = "0123456789abcdef" * 2


class World:
    """One identity provider with a quota of two, and one authorization server."""

    def __init__(
        self,
        idp: IdentityProvider,
        authorization_server: AuthorizationServer,
        outbound: Outbound,
        time: MovableTime,
    ) -> None:
        self._provider = idp.registration(quota=Quota(exchanges=2, days=30))
        self._server = authorization_server.registration()
        self._outbound = outbound
        self._time = time
        self._idp = idp

    def issuers(self, audit: AuditSettings, quota: Quota | None) -> Issuers:
        provider = replace(self._provider, quota=quota)
        settings = Settings(
            listen="unix:/nowhere",
            identity_providers={provider.issuer: provider},
            authorization_servers={self._server.issuer: self._server},
            servers={},
            audit=audit,
            timeouts=Timeouts(check=5, exchange=4, call=3),
        )
        return Issuers(settings, self._outbound, self._time.clock)

    async def obtain(self, issuers: Issuers, times: int) -> None:
        hub = Hub(self._provider, self._server, outbound=self._outbound, time=self._time)
        alice = hub.user(self._idp.sign_in())
        for _ in range(times):
            await issuers.id_jags[alice.issuer].obtain(alice, hub.server(), Legs(self._time.clock))


@pytest.fixture
def world(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> World:
    return World(idp, authorization_server, outbound, time)


TWO = Quota(exchanges=2, days=30)


async def test_each_id_jag_counts_where_a_quota_is_set(world: World, idp: IdentityProvider) -> None:
    issuers = world.issuers(quiet("/nowhere"), TWO)
    await world.obtain(issuers, 3)

    counted = issuers.issuances[idp.issuer]
    assert (counted.issued, counted.used_up) == (3, 1)


async def test_nothing_is_counted_where_none_is_set(world: World) -> None:
    issuers = world.issuers(quiet("/nowhere"), None)
    await world.obtain(issuers, 1)

    assert issuers.issuances == {}


async def test_the_log_names_a_user_as_the_audit_does_where_it_hides_names(
    world: World, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINGERPRINT_KEY", KEY)
    audit = replace(quiet("/nowhere"), fingerprint_key=SecretSource(env="FINGERPRINT_KEY"))
    with capture_logs() as lines:
        await world.obtain(world.issuers(audit, TWO), 2)

    assert lines[-1]["user"] == Fingerprints(KEY).of_subject(idp.issuer, "alice")


async def test_without_a_key_the_log_names_nobody_all_the_same(world: World) -> None:
    users = []
    for _ in range(2):
        with capture_logs() as lines:
            await world.obtain(world.issuers(quiet("/nowhere"), TWO), 2)
        users.append(lines[-1]["user"])

    assert "alice" not in str(users)
    assert users[0] != users[1]
