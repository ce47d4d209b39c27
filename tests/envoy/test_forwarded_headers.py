"""Exactly what Envoy forwards: nobody else's word on who the user is, and nothing of ours."""

import json
import re

import jwt
import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import HEADERS, post, whoami
from tests.envoy.raw_client import send
from tests.envoy.recorder import Recorder

FORGED = "mallory"


@pytest.mark.parametrize(
    "name",
    [
        "Cookie",
        "DPoP",
        "Proxy-Authorization",
        "Remote-User",
        "X-Access-Token",
        "X-Amzn-Oidc-Data",
        "X-Amzn-Oidc-Identity",
        "X-Auth-Request-Access-Token",
        "X-Auth-Request-Email",
        "X-Auth-Request-Groups",
        "X-Auth-Request-Preferred-Username",
        "X-Auth-Request-User",
        "X-Envoy-Auth-Failure-Mode-Allowed",
        "X-Envoy-Auth-Partial-Body",
        "X-Forwarded-Access-Token",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-User",
        "X-Goog-Authenticated-User-Email",
        "X-Goog-Iap-Jwt-Assertion",
        "X-Id-Token",
        "X-Mcp-Ext-Authz-Anything",
        "X-Mcp-Ext-Authz-Decision",
        "X-Mcp-Ext-Authz-Reason",
        "X-Ms-Client-Principal",
        "X-Ms-Client-Principal-Name",
        "X-Ms-Token-Aad-Id-Token",
        "X-Remote-User",
        "X-User-Email",
        "X-User-Id",
    ],
)
def test_an_identity_header_of_the_client_is_not_forwarded(
    recorded_front: Front, recorder: Recorder, alice: str, name: str
) -> None:
    spellings = (name, name.replace("-", "."))
    lines = [f"{spelling}: {FORGED}" for spelling in spellings]
    answer = send(recorded_front.url, post("/crm/mcp", alice, *lines))

    (heard,) = recorder.heard
    assert answer.status == 200
    assert FORGED not in heard
    assert not {spelling.lower() for spelling in spellings} & heard.headers.keys()


@pytest.mark.parametrize(
    "name",
    [
        "X-Envoy-Decorator-Operation",
        "X-Envoy-Force-Trace",
        "X-Envoy-Internal",
        "X-Envoy-Max-Retries",
        "X-Envoy-Original-Host",
        "X-Envoy-Retry-On",
        "X-Envoy-Upstream-Rq-Timeout-Ms",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Host",
        "X-Request-Id",
    ],
)
def test_what_only_envoy_may_say_is_not_taken_from_the_client(
    recorded_front: Front, recorder: Recorder, alice: str, name: str
) -> None:
    answer = send(recorded_front.url, post("/crm/mcp", alice, f"{name}: {FORGED}"))

    (heard,) = recorder.heard
    assert answer.status == 200
    assert FORGED not in heard


def test_these_headers_are_forwarded_and_no_others(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    send(recorded_front.url, post("/crm/mcp", alice))

    (heard,) = recorder.heard
    envoys = {"x-forwarded-for", "x-forwarded-proto", "x-request-id"}
    envoys |= {"x-envoy-external-address", "x-envoy-original-path"}
    assert heard.request_line == "POST /mcp HTTP/1.1"
    assert heard.headers.keys() == {"host", "content-length", "authorization", *HEADERS, *envoys}
    assert heard.headers["host"] == ("front",)
    assert heard.body == whoami().encode()


def test_what_mcp_needs_is_forwarded_as_it_came(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    session = {"mcp-session-id": "0123", "last-event-id": "7", "x-of-the-client": "kept"}
    lines = [f"{name}: {value}" for name, value in session.items()]
    send(recorded_front.url, post("/crm/mcp", alice, *lines))

    (heard,) = recorder.heard
    for name, value in (HEADERS | session).items():
        assert heard.headers[name] == (value,)


def test_the_one_authorization_header_is_the_users_token_for_that_server(
    world: World, recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    send(recorded_front.url, post("/crm/mcp", alice))

    (heard,) = recorder.heard
    (authorization,) = heard.headers["authorization"]
    claims = jwt.decode(authorization.removeprefix("Bearer "), options={"verify_signature": False})
    assert (claims["iss"], claims["sub"], claims["aud"]) == (
        world.crm.issuer,
        "00u-alice",
        world.crm.resource,
    )


def test_a_client_cannot_claim_that_its_body_was_only_seen_in_part(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    """Were it believed, the client's `Mcp-Name` would go unchecked."""
    body = json.dumps({**json.loads(whoami()), "method": "tools/list"})
    lines = ["X-Envoy-Auth-Partial-Body: true"]
    answer = send(recorded_front.url, post("/crm/mcp", alice, *lines, body=body))

    assert (answer.status, answer.reason) == (403, "message_header_mismatch")
    assert recorder.heard == []


def test_an_mcp_server_cannot_give_out_a_decision_id_as_ours(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    recorder.answer = (
        b"HTTP/1.1 200 OK\r\nx-mcp-ext-authz-decision: forged\r\ncontent-length: 0\r\n\r\n"
    )
    answer = send(recorded_front.url, post("/crm/mcp", alice))

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-mcp-ext-authz-decision"])
