"""However a path is written: the Check is about the server that Envoy forwards to, or it ends here."""

from collections.abc import Iterator

import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from tests.envoy.logs import audit_record
from tests.envoy.mcp_call import post
from tests.envoy.raw_client import Answer, send
from tests.envoy.recorder import Recorder
from tests.envoy.witnessed import reaching

TO_THE_CRM = [
    "/crm/mcp",
    "//crm//mcp",
    "/noauth/../crm/mcp",
    "/wiki/../crm/mcp",
    "/wiki/%2e%2e/crm/mcp",
    "/crm/./mcp",
    "/crm/../../crm/mcp",
    "/%63rm/mcp",
    "/crm\\mcp",
    "/crm/mcp?x=/../../wiki/mcp",
    "/.well-known/oauth-protected-resource/../../crm/mcp",
]
TO_THE_WIKI = [
    "/wiki/mcp",
    "/crm/../wiki/mcp",
    "/crm/%2e%2e/wiki/mcp",
    "/crm/%2E./wiki/mcp",
    "/crm\\..\\wiki\\mcp",
]
TO_NOBODY = {
    "/CRM/mcp": 404,
    "/crm;x=/mcp": 404,
    "/crmx/mcp": 404,
    "/crm/..": 404,
    "/": 404,
    "/crm%2fmcp": 400,
    "/crm%2Fmcp": 400,
    "/crm%5cmcp": 400,
    "/crm/mcp%00": 400,
    "/crm/mcp\x00": 400,
    "/crm/mcp#fragment": 400,
    "crm/mcp": 400,
    "*": 400,
    "": 400,
}
NO_REQUESTS = {
    b"CONNECT crm:80 HTTP/1.1\r\nHost: crm:80\r\n\r\n": 403,
    b"CONNECT /crm/mcp HTTP/1.1\r\nHost: front\r\n\r\n": 400,
    b"POST /crm/mcp HTTP/1.0\r\nContent-Length: 0\r\n\r\n": 426,
    b"POST /crm/mcp HTTP/1.1\r\nContent-Length: 0\r\n\r\n": 400,
    b"GET /crm/mcp\r\n\r\n": 426,
    b"POST /crm/mcp HTTP/1.1\r\nHost: front\r\nHost : x\r\n\r\n": 400,
    b"PRI /crm/mcp HTTP/1.1\r\nHost: front\r\n\r\n": 400,
    b"FETCH /crm/mcp HTTP/1.1\r\nHost: front\r\n\r\n": 400,
    b"\x16\x03\x01\x00\x05hello\r\n\r\n": 400,
}


def answer_of(front: Front, path: str, token: str = "") -> Answer:
    return send(front.url, post(path, token, host=front.url.removeprefix("http://")))


@pytest.fixture(autouse=True)
def _envoy_stands_as_before(recorded_front: Front, alice: str) -> Iterator[None]:
    yield
    assert answer_of(recorded_front, "/crm/mcp", alice).status == 200


@pytest.mark.parametrize(
    ("path", "server", "other"),
    [
        *((path, "crm", "wiki") for path in TO_THE_CRM),
        *((path, "wiki", "crm") for path in TO_THE_WIKI),
    ],
)
def test_route_check_and_token_are_about_the_same_server(
    world: World, front: Front, alice: str, path: str, server: str, other: str
) -> None:
    with reaching(server, world) as notes, reaching(other, world) as others:
        answer = answer_of(front, path, alice)

    (note,) = notes
    site = {"crm": world.crm, "wiki": world.wiki}[server]
    record = audit_record(front, answer.headers["x-mcp-ext-authz-decision"])
    assert answer.status == 200
    assert record["server"] == server
    assert note.bearer is not None
    assert note.bearer.aud == site.resource
    assert others == []


@pytest.mark.parametrize("path", TO_THE_CRM + TO_THE_WIKI)
def test_without_a_token_it_is_a_401_and_goes_nowhere(
    world: World, front: Front, path: str
) -> None:
    with reaching("crm", world) as crm, reaching("wiki", world) as wiki:
        answer = answer_of(front, path)

    assert (answer.status, answer.reason) == (401, "token_missing")
    assert (crm, wiki) == ([], [])


@pytest.mark.parametrize(("path", "status"), TO_NOBODY.items())
def test_what_is_nobodys_path_ends_here_with_a_token_or_without(
    recorded_front: Front, recorder: Recorder, alice: str, path: str, status: int
) -> None:
    assert answer_of(recorded_front, path, alice).status == status
    assert answer_of(recorded_front, path).status == status
    assert recorder.heard == []


@pytest.mark.parametrize(("sent", "status"), NO_REQUESTS.items())
def test_what_is_no_request_of_ours_is_refused(
    recorded_front: Front, recorder: Recorder, sent: bytes, status: int
) -> None:
    assert send(recorded_front.url, sent).status == status
    assert recorder.heard == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE"])
def test_methods_that_mcp_does_not_know_are_refused(
    recorded_front: Front, recorder: Recorder, alice: str, method: str
) -> None:
    request = post("/crm/mcp", alice).replace(b"POST", method.encode(), 1)
    answer = send(recorded_front.url, request)

    assert (answer.status, answer.reason) == (403, "http_method_refused")
    assert recorder.heard == []


@pytest.mark.parametrize("host", ["evil.example", "wiki", "127.0.0.1:1", "front,other"])
@pytest.mark.parametrize("form", ["/crm/mcp", "http://evil.example/crm/mcp"])
def test_neither_host_nor_absolute_url_changes_the_server(
    recorded_front: Front, recorder: Recorder, alice: str, form: str, host: str
) -> None:
    answer = send(recorded_front.url, post(form, alice, host=host))
    record = audit_record(recorded_front, answer.headers["x-mcp-ext-authz-decision"])

    (heard,) = recorder.heard
    assert answer.status == 200
    assert record["server"] == "crm"
    assert heard.request_line == "POST /mcp HTTP/1.1"
    assert send(recorded_front.url, post(form, "", host=host)).status == 401
    assert len(recorder.heard) == 1
