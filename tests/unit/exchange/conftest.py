"""The hub, and a user who has signed in."""

import pytest

from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.outbound import Outbound
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime


@pytest.fixture
def hub(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> Hub:
    return Hub(
        idp.registration(), authorization_server.registration(), outbound=outbound, time=time
    )


@pytest.fixture
def alice(hub: Hub, idp: IdentityProvider) -> VerifiedUser:
    return hub.user(idp.sign_in())
