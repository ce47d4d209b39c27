"""Protected resource metadata (RFC 9728): where a client without a token learns where to sign in."""

import re
from collections.abc import Iterator

import httpx2
import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import call, http_client
from tests.envoy.test_eras import SERVERS
from tests.envoy.witnessed import reaching

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.fixture(autouse=True)
def _it_never_reaches_an_mcp_server(world: World) -> Iterator[None]:
    with reaching("crm", world) as crm, reaching("wiki", world) as wiki:
        yield
    assert (crm, wiki) == ([], [])


async def ask(method: str, url: str) -> httpx2.Response:
    async with http_client() as http:
        return await http.request(method, url)


@SERVERS
async def test_it_names_the_servers_url_and_the_identity_provider(
    world: World, front: Front, server: str
) -> None:
    answer = await ask("GET", f"{front.url}{WELL_KNOWN}/{server}/mcp")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json() == {
        "resource": front.server_url(server),
        "resource_name": server,
        "authorization_servers": [world.identity_provider.issuer],
        "bearer_methods_supported": ["header"],
    }


@SERVERS
async def test_a_401_points_to_exactly_this_document(front: Front, server: str) -> None:
    challenge = (await call(front.server_url(server))).headers["www-authenticate"]
    found = re.search('resource_metadata="([^"]+)"', challenge)
    assert found is not None

    assert found[1] == f"{front.url}{WELL_KNOWN}/{server}/mcp"
    assert (await ask("GET", found[1])).json()["resource"] == front.server_url(server)


async def test_what_the_client_says_of_the_host_is_not_in_it(front: Front) -> None:
    lies = {"host": "evil.example", "x_forwarded_host": "evil.example", "forwarded": "host=evil"}
    answer = await call(front.server_url("crm"), **lies)

    assert f"{front.url}{WELL_KNOWN}/crm/mcp" in answer.headers["www-authenticate"]
    assert "evil" not in str(answer.headers) + answer.text


async def test_head_has_the_same_headers_and_no_body(front: Front) -> None:
    url = f"{front.url}{WELL_KNOWN}/crm/mcp"
    got, headed = await ask("GET", url), await ask("HEAD", url)

    assert headed.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-type"] == "application/json"
    assert headed.headers["content-length"] == str(len(got.content))


async def test_options_is_answered_like_get(front: Front) -> None:
    url = f"{front.url}{WELL_KNOWN}/crm/mcp"

    assert (await ask("OPTIONS", url)).json() == (await ask("GET", url)).json()


@pytest.mark.parametrize(
    "suffix", ["", "/", "/crm", "/mcp", "/crm/mcp/more", "/CRM/mcp", "/hr/mcp", "/mcp/crm"]
)
async def test_of_a_url_that_no_server_has_there_is_none(front: Front, suffix: str) -> None:
    answer = await ask("GET", f"{front.url}{WELL_KNOWN}{suffix}")

    assert answer.status_code == 403
    assert answer.headers["x-mcp-ext-authz-reason"] == "server_unknown"


async def test_a_longer_well_known_name_is_another_name(front: Front) -> None:
    assert (await ask("GET", f"{front.url}{WELL_KNOWN}x/crm/mcp")).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_it_is_there_to_be_read_and_for_nothing_else(front: Front, method: str) -> None:
    answer = await ask(method, f"{front.url}{WELL_KNOWN}/crm/mcp")

    assert answer.status_code == 403
    assert answer.headers["x-mcp-ext-authz-reason"] == "server_unknown"


async def test_a_servers_own_metadata_path_is_not_open_to_all(front: Front) -> None:
    """Under its route the server may publish another document; it is behind the Check as all is."""
    answer = await ask("GET", f"{front.url}/crm{WELL_KNOWN}/mcp")

    assert answer.status_code == 401
