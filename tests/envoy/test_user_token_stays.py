"""The user token goes no further than the service, wherever in the request it stands."""

from urllib.parse import quote

import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.mcp_call import post
from tests.envoy.raw_client import Answer, send
from tests.envoy.recorder import Recorder

PATH = "/crm/mcp"


def encoded(token: str) -> str:
    """The same token for whoever decodes it: its dots percent-encoded."""
    return quote(token).replace(".", "%2E")


def answer_of(front: Front, token: str, *lines: str, path: str = PATH, host: str = "") -> Answer:
    netloc = front.url.removeprefix("http://")
    return send(front.url, post(path, token, *lines, host=host or netloc))


@pytest.mark.parametrize(
    "line",
    [
        "X-My-Token: {token}",
        "x-my-token: Bearer {token}",
        "X-MY-TOKEN: before {token} after",
        "X-My-Token: {encoded}",
        "X-Forwarded-Access-Token: {token}",
        "x.forwarded.access.token: {token}",
        "Proxy-Authorization: Bearer {token}",
        "Cookie: session={token}",
        "Referer: https://app.example/?access_token={token}",
        "Traceparent: {token}",
        "X-Request-Id: {token}",
        "X-Forwarded-For: {token}",
        "X-Forwarded-Proto: {token}",
        "User-Agent: {token}",
        "Mcp-Session-Id: {token}",
        "X-Envoy-Original-Path: /{token}",
    ],
)
def test_a_header_that_holds_it_is_removed(
    world: World, front: Front, recorded_front: Front, recorder: Recorder, alice: str, line: str
) -> None:
    extra = line.format(token=alice, encoded=encoded(alice))

    assert answer_of(front, alice, extra).status == 200
    assert world.user_tokens_seen() == 0

    assert answer_of(recorded_front, alice, extra).status == 200
    (heard,) = recorder.heard
    assert alice not in heard
    assert encoded(alice) not in heard


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION", "AuThOrIzAtIoN"])
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_however_the_header_is_spelt_it_is_replaced(
    recorded_front: Front, recorder: Recorder, alice: str, name: str, scheme: str
) -> None:
    answer = answer_of(recorded_front, "", f"{name}: {scheme} {alice}")

    (heard,) = recorder.heard
    (authorization,) = heard.headers["authorization"]
    assert answer.status == 200
    assert authorization.startswith("Bearer ")
    assert alice not in heard


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("{path}?access_token={token}", ""),
        ("{path}?a=b&access_token={token}&c=d", ""),
        ("{path}?access_token={encoded}", ""),
        ("{path}/{token}", ""),
        ("{path}/{encoded}", ""),
        ("{path}", "{token}"),
        ("{path}", "{token}.example:80"),
    ],
)
def test_a_url_that_holds_it_is_refused(
    world: World,
    front: Front,
    recorded_front: Front,
    recorder: Recorder,
    alice: str,
    path: str,
    host: str,
) -> None:
    path = path.format(path=PATH, token=alice, encoded=encoded(alice))
    host = host.format(token=alice)

    for each in (front, recorded_front):
        answer = answer_of(each, alice, path=path, host=host)
        assert (answer.status, answer.reason) == (401, "token_malformed")
    assert recorder.heard == []
    assert world.user_tokens_seen() == 0


def test_an_absolute_url_that_holds_it_is_refused(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    answer = answer_of(recorded_front, alice, path=f"http://{alice}{PATH}")

    assert answer.status == (400 if "_" in alice else 401)  # Envoy takes no underscore there
    assert recorder.heard == []


@pytest.mark.parametrize("second", ["Bearer {token}", "Basic eDp5", "Bearer x.y.z", ","])
def test_a_second_authorization_header_is_refused(
    world: World, front: Front, recorded_front: Front, recorder: Recorder, alice: str, second: str
) -> None:
    line = "Authorization: " + second.format(token=alice)

    for each in (front, recorded_front):
        answer = answer_of(each, alice, line)
        assert (answer.status, answer.reason) == (401, "token_malformed")
    assert recorder.heard == []
    assert world.user_tokens_seen() == 0


def test_an_empty_second_authorization_header_counts_for_nothing(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    answer = answer_of(recorded_front, alice, "Authorization: ")

    (heard,) = recorder.heard
    assert answer.status == 200
    assert len(heard.headers["authorization"]) == 1
    assert alice not in heard


@pytest.mark.parametrize("name", ["X_My_Token", "x_forwarded_access_token", "Authorization_"])
def test_a_header_name_with_an_underscore_is_refused_by_envoy(
    recorded_front: Front, recorder: Recorder, alice: str, name: str
) -> None:
    answer = answer_of(recorded_front, alice, f"{name}: {alice}")

    assert (answer.status, answer.reason) == (400, "")
    assert recorder.heard == []


def test_a_connection_header_that_names_authorization_hides_it_from_all(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    answer = answer_of(recorded_front, alice, "Connection: authorization")

    assert (answer.status, answer.reason) == (401, "token_missing")
    assert recorder.heard == []


def test_a_trailer_that_holds_it_is_dropped(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    head, _, body = post(PATH, alice).partition(b"\r\n\r\n")
    head = head.replace(f"Content-Length: {len(body)}".encode(), b"Transfer-Encoding: chunked")
    chunks = b"%x\r\n%s\r\n0\r\nX-Trailer: %s\r\n\r\n" % (len(body), body, alice.encode())
    answer = send(recorded_front.url, head + b"\r\n\r\n" + chunks)

    (heard,) = recorder.heard
    assert answer.status == 200
    assert heard.body == body
    assert alice not in heard
