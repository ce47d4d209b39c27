"""Request bodies: buffered whole for the Check, and forwarded as they came."""

import time

import pytest

from ext_authz.demo.front import Front
from tests.doubles.audit_records import records_in
from tests.envoy.mcp_call import post, whoami
from tests.envoy.raw_client import answer, connection, send
from tests.envoy.recorder import Recorder

LIMIT = 1024 * 1024  # `max_request_bytes` of envoy.yaml
PATH = "/crm/mcp"


def body_of(length: int) -> str:
    return whoami(padding="x" * (length - len(whoami(padding=""))))


def chunked(request: bytes, size: int = 4096) -> bytes:
    """The same request, its body in chunks of `size`."""
    head, _, body = request.partition(b"\r\n\r\n")
    head = head.replace(f"Content-Length: {len(body)}".encode(), b"Transfer-Encoding: chunked")
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return head + b"\r\n\r\n" + chunks


@pytest.mark.parametrize("written", [bytes, chunked], ids=["whole", "in chunks"])
def test_a_body_at_the_limit_passes_unchanged(
    recorded_front: Front, recorder: Recorder, alice: str, written: type
) -> None:
    request = written(post(PATH, alice, body=body_of(LIMIT)))

    assert send(recorded_front.url, request).status == 200
    (heard,) = recorder.heard
    assert heard.body == body_of(LIMIT).encode()


@pytest.mark.parametrize("written", [bytes, chunked], ids=["whole", "in chunks"])
def test_a_body_beyond_the_limit_is_a_413_that_nobody_is_asked_about(
    recorded_front: Front, recorder: Recorder, alice: str, written: type
) -> None:
    checks = len(records_in(recorded_front.audit_file))
    request = written(post(PATH, alice, body=body_of(LIMIT + 1)))

    assert send(recorded_front.url, request).status == 413
    assert recorder.heard == []
    assert len(records_in(recorded_front.audit_file)) == checks


def test_a_body_in_the_smallest_chunks_is_read_like_any_other(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    assert send(recorded_front.url, chunked(post(PATH, alice), size=1)).status == 200
    (heard,) = recorder.heard
    assert heard.body == whoami().encode()


def test_a_client_that_waits_for_100_continue_gets_it(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    head, _, body = post(PATH, alice, "Expect: 100-continue").partition(b"\r\n\r\n")
    with connection(recorded_front.url) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert answer(sock).status == 200

    (heard,) = recorder.heard
    assert heard.body == body


def test_a_slow_body_is_waited_for_and_nothing_goes_on_before_its_end(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    request = post(PATH, alice)
    with connection(recorded_front.url) as sock:
        for start in range(0, len(request), 200):
            assert recorder.heard == []
            sock.sendall(request[start : start + 200])
            time.sleep(0.3)
        assert answer(sock).status == 200


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Content-Length: {less}", 403),  # the truncated body is no JSON
        ("Content-Length: {length}\r\nContent-Length: {less}", 400),
        ("Content-Length: {length}\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, identity", 501),
        ("Content-Length: -1", 400),
        ("Content-Length: +{length}", 400),
        ("Content-Length: 0x10", 400),
    ],
)
def test_a_length_that_does_not_fit_never_gets_through(
    recorded_front: Front, recorder: Recorder, alice: str, said: str, status: int
) -> None:
    length = len(whoami())
    lines = said.format(length=length, less=length - 1).encode()
    request = post(PATH, alice).replace(f"Content-Length: {length}".encode(), lines)

    assert send(recorded_front.url, request).status == status
    assert recorder.heard == []


def test_what_follows_a_body_is_another_request(
    recorded_front: Front, recorder: Recorder, alice: str
) -> None:
    smuggled = post(PATH, "", body=whoami(smuggled=True))
    with connection(recorded_front.url) as sock:
        sock.sendall(post(PATH, alice) + smuggled)
        assert [answer(sock).status, answer(sock).status] == [200, 401]

    (heard,) = recorder.heard
    assert "smuggled" not in heard


@pytest.mark.parametrize(("kilobytes", "status"), [(90, 200), (100, 431)])
def test_headers_have_room_up_to_their_limit(
    recorded_front: Front, recorder: Recorder, alice: str, kilobytes: int, status: int
) -> None:
    answered = send(recorded_front.url, post(PATH, alice, f"X-Big: {'x' * kilobytes * 1024}"))

    assert answered.status == status
    assert len(recorder.heard) == (status == 200)
