"""What an MCP server answers goes back to the client, but for what is ours to say."""

import pytest

from ext_authz.demo.front import Front
from tests.envoy.mcp_call import call
from tests.envoy.recorder import Recorder

CHALLENGE = (
    b"HTTP/1.1 401 Unauthorized\r\n"
    b'www-authenticate: Bearer resource_metadata="https://upstream.example/.well-known/x"\r\n'
    b"x-mcp-ext-authz-reason: upstream\r\nx-mcp-ext-authz-decision: upstream\r\n"
    b"x-of-the-server: kept\r\ncontent-length: 0\r\n\r\n"
)


@pytest.fixture
def a_server_that_sends_clients_to_its_own_sign_in(recorder: Recorder) -> Recorder:
    recorder.answer = CHALLENGE
    return recorder


async def test_an_upstreams_challenge_does_not_reach_the_client(
    recorded_front: Front, alice: str, a_server_that_sends_clients_to_its_own_sign_in: Recorder
) -> None:
    answer = await call(recorded_front.server_url("crm"), alice)

    assert answer.status_code == 401
    assert answer.headers["x-of-the-server"] == "kept"
    assert "www-authenticate" not in answer.headers
    assert "x-mcp-ext-authz-reason" not in answer.headers
    assert answer.headers["x-mcp-ext-authz-decision"] != "upstream"


async def test_ours_reaches_it(recorded_front: Front) -> None:
    answer = await call(recorded_front.server_url("crm"))

    assert answer.status_code == 401
    assert "resource_metadata=" in answer.headers["www-authenticate"]
    assert answer.headers["x-mcp-ext-authz-reason"] == "token_missing"
