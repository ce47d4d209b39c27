"""The one way out, against peers that do what they should not."""

import asyncio
import gzip
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from ext_authz.outbound import (
    MAX_ANSWER_BYTES,
    Outbound,
    OutboundError,
    Reply,
    is_loopback,
    refuse_unguarded,
)
from tests.unit.raw_peer import Line, RawPeer, Talk, answer, saying

FORM = {"assertion": "id.jag.x", "scope": "a b&c=d"}
CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """As an operator's who has a certificate authority of their own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@pytest.fixture
async def outbound(trust: ssl.SSLContext) -> AsyncIterator[Outbound]:
    async with Outbound(seconds=5, context=trust) as out:
        yield out


@pytest.fixture
async def hurried(trust: ssl.SSLContext) -> AsyncIterator[Outbound]:
    """As `outbound`, with a deadline that a test can wait for."""
    async with Outbound(seconds=0.3, context=trust) as out:
        yield out


async def fault_of(outbound: Outbound, talk: Talk) -> str:
    """The fault that an attempt to POST comes to, where one request was heard and no more."""
    async with RawPeer(talk) as peer:
        with pytest.raises(OutboundError) as error:
            await outbound.post_form(peer.url, FORM, {})
        assert len(peer.heard) == 1
    return str(error.value)


# ---- what is sent, and what comes back


async def test_a_form_is_posted_with_the_headers_given(outbound: Outbound) -> None:
    async with RawPeer(saying(answer())) as peer:
        await outbound.post_form(peer.url, FORM, {"authorization": "Basic x"})
        head, _, body = peer.heard[0].partition(b"\r\n\r\n")

    assert head.startswith(b"POST /token HTTP/1.1\r\n")
    assert b"\r\nauthorization: basic x" in head.lower()
    assert b"\r\ncontent-type: application/x-www-form-urlencoded" in head.lower()
    assert body == b"assertion=id.jag.x&scope=a+b%26c%3Dd"


async def test_an_uncompressed_json_answer_is_asked_for(outbound: Outbound) -> None:
    async with RawPeer(saying(answer())) as peer:
        await outbound.get(peer.url)
        head = peer.heard[0].lower()

    assert head.startswith(b"get /token http/1.1\r\n")
    assert b"\r\naccept: application/json\r\n" in head
    assert b"\r\naccept-encoding: identity\r\n" in head


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "400 Bad", "429 Slow", "503 Down"])
async def test_an_answer_comes_back_whole_whatever_its_status(
    outbound: Outbound, status: str
) -> None:
    async with RawPeer(saying(answer(b'{"a":1}', status=status))) as peer:
        reply = await outbound.get(peer.url)

    assert reply == Reply(status=int(status[:3]), body=b'{"a":1}', retry_after=None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("600", 600),
        ("601", 600),
        ("9999999", 600),
        ("99999999", None),
        ("-1", None),
        ("1.5", None),
        ("1e2", None),
        ("٣", None),
        ("", None),
        ("5, 6", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
async def test_retry_after_is_read_in_seconds_and_bounded(
    outbound: Outbound, value: str, seconds: int | None
) -> None:
    async with RawPeer(saying(answer(b"", f"retry-after: {value}"))) as peer:
        reply = await outbound.get(peer.url)

    assert reply.retry_after == seconds


async def test_an_answer_as_large_as_allowed_comes_back(outbound: Outbound) -> None:
    async with RawPeer(saying(answer(b"x" * MAX_ANSWER_BYTES))) as peer:
        reply = await outbound.get(peer.url)

    assert len(reply.body) == MAX_ANSWER_BYTES


async def test_a_connection_is_used_again(outbound: Outbound) -> None:
    async with RawPeer(saying(answer())) as peer:
        for _ in range(3):
            await outbound.get(peer.url)

        assert (peer.connections, len(peer.heard)) == (1, 3)


async def test_a_connection_that_the_peer_closed_is_not(outbound: Outbound) -> None:
    async with RawPeer(saying(answer(), hangs_up=True)) as peer:
        for _ in range(3):
            await outbound.get(peer.url)
            await asyncio.sleep(0.05)

        assert (peer.connections, len(peer.heard)) == (3, 3)


# ---- answers that are refused


@pytest.mark.parametrize(
    "status", ["300 Many", "301 Moved", "302 Found", "303 Other", "304 Same", "307 Go", "308 Go"]
)
async def test_a_redirect_is_refused_and_not_followed(outbound: Outbound, status: str) -> None:
    async with RawPeer(saying(answer())) as elsewhere:
        redirect = answer(b"", f"location: {elsewhere.url}", status=status)

        assert await fault_of(outbound, saying(redirect)) == "redirected"
        assert elsewhere.connections == 0


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip"])
async def test_a_compressed_answer_is_refused(outbound: Outbound, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)

    fault = await fault_of(outbound, saying(answer(bomb, f"content-encoding: {encoding}")))
    assert fault == "compressed"


async def test_identity_is_no_compression(outbound: Outbound) -> None:
    async with RawPeer(saying(answer(b"{}", "content-encoding: Identity"))) as peer:
        assert (await outbound.get(peer.url)).body == b"{}"


CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
TOO_LARGE = {
    "by one byte": saying(answer(b"x" * (MAX_ANSWER_BYTES + 1))),
    "without end, in chunks": saying(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *[CHUNK] * 100
    ),
    "without end, until it closes": saying(b"HTTP/1.1 200 OK\r\n\r\n", *[CHUNK] * 100),
}


@pytest.mark.parametrize("talk", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_too_large_an_answer_is_refused(outbound: Outbound, talk: Talk) -> None:
    assert await fault_of(outbound, talk) == "too large"


BROKEN = {
    "no answer": saying(hangs_up=True),
    "half a head": saying(b"HTTP/1.1 200 OK\r\ncontent-", hangs_up=True),
    "half a body": saying(answer(b"x" * 100)[:-50], hangs_up=True),
    "half a chunk": saying(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", hangs_up=True
    ),
    "another protocol": saying(b"SSH-2.0-OpenSSH_9.2\r\n", hangs_up=True),
    "ten thousand headers": saying(answer(b"", *["x: y" * 10] * 10_000)),
    "two lengths": saying(answer(b"{}", "content-length: 1")),
    "no length": saying(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
    "an unknown transfer encoding": saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"),
    "a NUL in a header": saying(answer(b"", "x: \0")),
}


@pytest.mark.parametrize("talk", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_answer_is_refused_and_the_form_not_sent_again(
    outbound: Outbound, talk: Talk
) -> None:
    assert await fault_of(outbound, talk) == "broken answer"


WHOLE = answer(b"x" * 100)
SLOW = {
    "silent": saying(every=60),
    "dribbling its head": saying(*(bytes([byte]) for byte in WHOLE), every=0.05),
    "dribbling its body": saying(
        WHOLE[:-100], *(bytes([byte]) for byte in WHOLE[-100:]), every=0.05
    ),
    "always about to answer": saying(*[b"HTTP/1.1 102 Wait\r\n\r\n"] * 1000, every=0.01),
}


@pytest.mark.parametrize("talk", SLOW.values(), ids=SLOW.keys())
async def test_one_deadline_bounds_the_whole_call(hurried: Outbound, talk: Talk) -> None:
    begun = time.monotonic()

    assert await fault_of(hurried, talk) == "timed out"
    assert time.monotonic() - begun < 3


async def test_a_fault_names_nothing_of_the_peers(outbound: Outbound) -> None:
    redirect = answer(CANARY.encode(), f"location: https://{CANARY}.example/", status="302 Found")
    async with RawPeer(saying(redirect)) as peer:
        with pytest.raises(OutboundError) as error:
            await outbound.get(f"{peer.url}?{CANARY}")

    assert CANARY not in f"{error.value} {error.value!r}"
    assert error.value.__suppress_context__


# ---- what the environment and earlier answers must not change


async def test_a_cookie_is_not_sent_back(outbound: Outbound) -> None:
    async with RawPeer(saying(answer(b"{}", "set-cookie: session=1; Path=/"))) as peer:
        await outbound.get(peer.url)
        await outbound.get(peer.url)

        assert len(peer.heard) == 2
        assert b"cookie" not in peer.heard[1].lower()


async def test_proxies_and_credentials_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with RawPeer(saying(answer())) as proxy, RawPeer(saying(answer())) as peer:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password something\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        async with Outbound(seconds=5) as outbound:
            await outbound.get(peer.url)

        assert proxy.connections == 0
        assert b"authorization" not in peer.heard[0].lower()


# ---- connections that fail


def encrypted(authority: trustme.CA, name: str, *, after: int = 0) -> Talk:
    """Speaks TLS as `name`; hangs up on the first connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def talk(peer: RawPeer, line: Line) -> None:
        if peer.connections > after:
            await line.encrypt(context)
            await saying(answer())(peer, line)

    return talk


def https(peer: RawPeer) -> str:
    return f"https://localhost:{peer.port}/token"


async def test_a_certificate_of_a_trusted_authority_is_accepted(
    outbound: Outbound, authority: trustme.CA
) -> None:
    async with RawPeer(encrypted(authority, "localhost")) as peer:
        assert (await outbound.post_form(https(peer), FORM, {})).status == 200


async def test_a_certificate_of_an_unknown_authority_is_refused(
    outbound: Outbound,
) -> None:
    async with RawPeer(encrypted(trustme.CA(), "localhost")) as peer:
        with pytest.raises(OutboundError, match=r"^could not connect$"):
            await outbound.post_form(https(peer), FORM, {})

        assert peer.heard == []


async def test_a_certificate_for_another_name_is_refused(
    outbound: Outbound, authority: trustme.CA
) -> None:
    async with RawPeer(encrypted(authority, "elsewhere.example")) as peer:
        with pytest.raises(OutboundError, match=r"^could not connect$"):
            await outbound.post_form(https(peer), FORM, {})

        assert peer.heard == []


async def test_a_connection_that_fails_is_tried_once_more(
    outbound: Outbound, authority: trustme.CA
) -> None:
    async with RawPeer(encrypted(authority, "localhost", after=1)) as peer:
        reply = await outbound.post_form(https(peer), FORM, {})

        assert reply.status == 200
        assert (peer.connections, len(peer.heard)) == (2, 1)


async def test_a_connection_that_fails_twice_is_given_up(
    outbound: Outbound, authority: trustme.CA
) -> None:
    async with RawPeer(encrypted(authority, "localhost", after=99)) as peer:
        with pytest.raises(OutboundError, match=r"^could not connect$"):
            await outbound.post_form(https(peer), FORM, {})

        assert peer.connections == 2


async def test_where_nobody_listens_there_is_no_connection(outbound: Outbound) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OutboundError, match=r"^could not connect$"):
            await outbound.get(f"http://127.0.0.1:{unused.getsockname()[1]}/")


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "xn--a"])
async def test_a_host_that_cannot_be_looked_up_is_a_fault(outbound: Outbound, host: str) -> None:
    with pytest.raises(OutboundError):
        await outbound.get(f"https://{host}/")


async def test_a_call_that_is_cancelled_gives_its_connection_back(outbound: Outbound) -> None:
    async with RawPeer(saying(every=60)) as silent, RawPeer(saying(answer())) as peer:
        calls = [asyncio.create_task(outbound.get(silent.url)) for _ in range(250)]
        await asyncio.sleep(0.1)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        assert (await outbound.get(peer.url)).status == 200


# ---- addresses


@pytest.mark.parametrize(
    "url",
    [
        "https://idp.corp.example",
        "https://idp.corp.example:8443/oauth2/v1/token?api-version=1",
        "https://[2001:db8::1]/",
        "https://192.0.2.1/",
        "https://1.0x2.example/",
        "http://localhost/",
        "http://localhost:8080/",
        "http://127.0.0.1:1",
        "http://127.8.9.10/",
        "http://[::1]:80/",
    ],
)
def test_https_and_loopback_are_let_out(url: str) -> None:
    refuse_unguarded(url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "not a URL"),
        ("idp.corp.example", "not a URL"),
        ("//idp.corp.example", "not a URL"),
        ("HTTPS://idp.corp.example", "not a URL"),
        ("file:///etc/passwd", "not a URL"),
        ("ftp://idp.corp.example", "not a URL"),
        ("https://", "not a URL"),
        (" https://idp.corp.example", "not a URL"),
        ("https://idp.corp.example/\n", "not a URL"),
        ("https://idp.corp.example/a b", "not a URL"),
        ('https://idp.corp.example/"', "not a URL"),
        ("https://idp.corp.example\\@evil.example", "not a URL"),
        ("https://idp.corp.exämple", "not a URL"),
        ("https://idp.corp.example:99999", "not a URL"),
        ("https://idp.corp.example:x", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https:///token", "not a plain URL"),
        ("https://:443/", "not a plain URL"),
        ("https://idp.corp.example@evil.example", "not a plain URL"),
        ("https://:secret@evil.example", "not a plain URL"),
        ("https://@evil.example", "not a plain URL"),
        ("https://[fe80::1%25eth0]/", "not a plain URL"),
        ("https://[::1]evil.example/", "not a plain URL"),
        ("https://idp%2ecorp.example/", "not a plain URL"),
        ("https://idp`.corp.example/", "not a plain URL"),
        ("https://idp.corp.example/#x", "not a plain URL"),
        ("https://idp.corp.example/#", "not a plain URL"),
        ("http://127.1/", "an address in an odd spelling"),
        ("https://2852039166/", "an address in an odd spelling"),
        ("https://0xa9fea9fe/", "an address in an odd spelling"),
        ("https://0251.0376.0251.0376/", "an address in an odd spelling"),
        ("https://169.254.43518/", "an address in an odd spelling"),
        ("https://169.254.169.0xfe./", "an address in an odd spelling"),
        ("https://169.254.169.254./", "an address in an odd spelling"),
        ("http://idp.corp.example", "neither https nor loopback"),
        ("http://127.0.0.1.evil.example", "neither https nor loopback"),
        ("http://localhost.evil.example", "neither https nor loopback"),
        ("http://0.0.0.0/", "neither https nor loopback"),
        ("http://169.254.169.254/", "neither https nor loopback"),
        ("https://169.254.169.254/", "a link-local address"),
        ("https://[fe80::1]/", "a link-local address"),
        ("https://[::ffff:169.254.169.254]/", "a link-local address"),
    ],
)
async def test_any_other_address_is_refused_before_anything_is_sent(
    outbound: Outbound, url: str, fault: str
) -> None:
    with pytest.raises(OutboundError, match=f"^{fault}$"):
        refuse_unguarded(url)
    with pytest.raises(OutboundError, match=f"^{fault}$"):
        await outbound.get(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("127.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_a_literal_address_or_the_name_localhost(host: str, expected: object) -> None:
    assert is_loopback(host) is expected
