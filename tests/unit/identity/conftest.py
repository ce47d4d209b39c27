"""The verifier of user tokens, in front of an identity provider on loopback."""

from collections.abc import Callable

import pytest

from ext_authz.identity.issuer_keys import IssuerKeys
from ext_authz.identity.issuer_metadata import IssuerMetadata, openid_locations
from ext_authz.identity.verify import Users
from ext_authz.outbound import Outbound
from ext_authz.settings.settings import IdentityProvider as Registration
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime

KeysOf = Callable[[Registration], IssuerKeys]


@pytest.fixture
def keys_of(outbound: Outbound, time: MovableTime) -> KeysOf:
    def keys_of(provider: Registration) -> IssuerKeys:
        issuer = provider.issuer
        metadata = IssuerMetadata(issuer, openid_locations(issuer), outbound, time.clock)
        return IssuerKeys(metadata, provider.jwks_uri, outbound, time.clock)

    return keys_of


@pytest.fixture
def users_of(keys_of: KeysOf, time: MovableTime) -> Callable[..., Users]:
    def users_of(*providers: Registration) -> Users:
        keys = {provider.issuer: keys_of(provider) for provider in providers}
        return Users({provider.issuer: provider for provider in providers}, keys, time.clock)

    return users_of


@pytest.fixture
def keys(idp: IdentityProvider, keys_of: KeysOf) -> IssuerKeys:
    return keys_of(idp.registration())


@pytest.fixture
def users(idp: IdentityProvider, users_of: Callable[..., Users]) -> Users:
    return users_of(idp.registration())
