"""What Envoy tells the service of a request, and what it keeps to itself."""

import pytest

from ext_authz._protos.attribute_context_pb2 import AttributeContext
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.demo.front import Front
from tests.envoy.fronts import envoy
from tests.envoy.mcp_call import call, whoami
from tests.envoy.rogue import rogue_service

DENIAL = CheckResponse().SerializeToString()


async def told(front: Front, server: str, **headers: str) -> AttributeContext:
    """The attributes of the one Check for a call with those headers."""
    async with rogue_service(front.folder / "check.sock", DENIAL) as asked, envoy(front):
        await call(front.server_url(server), "x.y.z", **headers)
    (request,) = asked
    return request.attributes


@pytest.mark.parametrize("server", ["crm", "wiki"])
async def test_it_names_the_server_of_the_route_and_brings_the_whole_body(
    own_front: Front, server: str
) -> None:
    attributes = await told(own_front, server)

    assert attributes.context_extensions == {"mcp.server": server}
    assert attributes.request.http.raw_body == whoami().encode()
    assert attributes.request.http.headers["x-envoy-auth-partial-body"] == "false"


async def test_it_keeps_cookies_and_forged_copies_of_our_headers_back(own_front: Front) -> None:
    forged = {
        "cookie": "session=forged",
        "x_forwarded_host": "forged",
        "x_envoy_auth_partial_body": "forged",
        "x_mcp_ext_authz_decision": "forged",
    }
    headers = (await told(own_front, "crm", **forged)).request.http.headers

    assert headers["authorization"] == "Bearer x.y.z"
    assert not any("forged" in value for value in headers.values())
