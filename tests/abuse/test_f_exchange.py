"""F, the exchange: what providers answer, how the wire lies, and what of it is believed."""

import asyncio
import contextlib
import gzip
import json
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import trustme

from ext_authz.exchange.client_auth import ASSERTION_SECONDS
from ext_authz.exchange.failure_memory import SECONDS
from ext_authz.exchange.token_answer import MAX_TOKEN_LENGTH
from ext_authz.outbound import MAX_ANSWER_BYTES
from ext_authz.reasons import Reason
from ext_authz.settings.settings import AssertionAudience, AuthMethod, Timeouts
from tests.abuse.denied import Seen, check_denial, denied, exchanges, records_of
from tests.abuse.rig import Rig
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import PROVIDERS_WORDS, Dial, Endpoint
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import HUB, HUB_AT_SERVER, client
from tests.doubles.signing_keys import signing_key
from tests.doubles.tokens import ABSENT, claims_of
from tests.pipeline.gateway import Answer, Gateway, overheard
from tests.unit.raw_peer import Line, RawPeer, Talk, answer, saying

pytestmark = pytest.mark.usefixtures("no_authorities", "credentials")

ABSENT_HERE = pytest.param(ABSENT, id="absent")
Leg = Callable[[Gateway], Endpoint]
LEGS: dict[str, tuple[Leg, Reason]] = {
    "leg 1": (lambda g: g.idp.token, Reason.IDP_UNAVAILABLE),
    "leg 2": (lambda g: g.authorization_server.token, Reason.AS_UNAVAILABLE),
}
each_leg = pytest.mark.parametrize(("leg", "unavailable"), LEGS.values(), ids=LEGS)

NO_TOKENS: dict[str, object] = {
    "absent": ABSENT,
    "empty": "",
    "null": None,
    "a number": 7,
    "a list": ["token"],
    "huge": "a" * (MAX_TOKEN_LENGTH + 1),
    "not ASCII": "tökén",
    "a line break": "token\r\nx-admin: 1",
    "a NUL": "token\0",
    "a space": "to ken",
    "a comma": "to,ken",
}
each_no_token = pytest.mark.parametrize("token", NO_TOKENS.values(), ids=NO_TOKENS)


# ---- F1: what leg 1 answers


async def leg_1_answers(gateway: Gateway, reason: Reason, **members: object) -> None:
    """The denial that follows; the authorization server never hears of it."""
    gateway.idp.token.dial = Dial(members=members)

    await denied(gateway, reason)

    assert exchanges(gateway) == (1, 0)


@pytest.mark.parametrize(
    "kind",
    [
        ABSENT_HERE,
        None,
        "",
        7,
        "urn:ietf:params:oauth:token-type:access_token",
        "urn:ietf:params:oauth:token-type:jwt",
        "URN:IETF:PARAMS:OAUTH:TOKEN-TYPE:ID-JAG",
        ["urn:ietf:params:oauth:token-type:id-jag"],
    ],
    ids=str,
)
async def test_f1_a_token_issued_as_something_else_is_refused(
    gateway: Gateway, kind: object, seen: Seen
) -> None:
    await leg_1_answers(gateway, Reason.IDP_ANSWER_INVALID, issued_token_type=kind)
    seen("deny idp_answer_invalid")


@pytest.mark.parametrize("kind", [ABSENT_HERE, None, "", "DPoP", "mac", "N_A ", ["N_A"]], ids=str)
async def test_f1_a_token_type_that_is_not_na_is_refused(
    gateway: Gateway, kind: object, seen: Seen
) -> None:
    await leg_1_answers(gateway, Reason.IDP_ANSWER_INVALID, token_type=kind)
    seen("deny idp_answer_invalid")


async def test_f1_token_type_bearer_passes(gateway: Gateway, seen: Seen) -> None:
    """A decision: Okta documents it. The ID-JAG itself says what it is, and that is checked (F2)."""
    gateway.idp.token.dial = Dial(members={"token_type": "Bearer"})

    assert (await gateway.call()).is_allow
    seen("allow (decided)")


@each_no_token
async def test_f1_what_is_no_token_is_refused(gateway: Gateway, token: object, seen: Seen) -> None:
    await leg_1_answers(gateway, Reason.IDP_ANSWER_INVALID, access_token=token)
    seen("deny idp_answer_invalid")


async def test_f1_more_scope_than_asked_is_refused(gateway: Gateway, seen: Seen) -> None:
    await leg_1_answers(gateway, Reason.IDP_ANSWER_INVALID, scope="tickets.read admin")
    seen("deny idp_answer_invalid")


async def test_f1_another_resource_is_refused(gateway: Gateway, seen: Seen) -> None:
    await leg_1_answers(
        gateway, Reason.IDP_ANSWER_INVALID, resource="https://wiki.corp.example/mcp"
    )
    seen("deny idp_answer_invalid")


async def test_f1_a_refresh_token_is_dropped(gateway: Gateway, seen: Seen) -> None:
    """A decision: providers send what they are set to; it is never read, kept or told of."""
    gateway.idp.token.dial = Dial(members={"refresh_token": "refresh-token-of-leg-1"})

    allowed = await gateway.call()
    gateway.time.passes(3600)
    await gateway.call()

    assert allowed.is_allow
    assert b"refresh-token" not in allowed.response.SerializeToString()
    assert "refresh-token" not in gateway.audit_file.read_text()
    assert not any("refresh" in call.body.decode() for call in gateway.idp.token.calls)
    seen("allow, dropped")


# ---- F2: the ID-JAG itself


async def id_jag_denied(gateway: Gateway) -> None:
    """It is refused by us, and leg 2 never walked."""
    await denied(gateway, Reason.ID_JAG_INVALID)

    assert exchanges(gateway) == (1, 0)


ID_JAG_CLAIMS: dict[str, dict[str, object]] = {
    "of another issuer": {"iss": "https://idp.other.example"},
    "without an issuer": {"iss": ABSENT},
    "for another server's AS": {"aud": "https://auth.other.example"},
    "for two": {"aud": ["https://auth.other.example", "https://auth.corp.example"]},
    "for nobody": {"aud": []},
    "without an audience": {"aud": ABSENT},
    "for another client": {"client_id": "somebody-else"},
    "for our client at the identity provider": {"client_id": "hub"},
    "without a client": {"client_id": ABSENT},
    "for another resource": {"resource": "https://wiki.corp.example/mcp"},
    "for two resources": {
        "resource": ["https://crm.corp.example/mcp", "https://wiki.corp.example/mcp"]
    },
    "without a resource": {"resource": ABSENT},
    "expired": {"exp": 1_000_000_000},
    "without an end": {"exp": ABSENT},
    "with an end in words": {"exp": "1795000300"},
    "with an end that is true": {"exp": True},
    "bound to a key": {"cnf": {"jkt": "x"}},
    "without a name": {"jti": ABSENT},
    "with an empty name": {"jti": ""},
}


@pytest.mark.parametrize("claims", ID_JAG_CLAIMS.values(), ids=ID_JAG_CLAIMS)
async def test_f2_an_id_jag_for_something_else_is_not_redeemed(
    gateway: Gateway, claims: dict[str, object], seen: Seen
) -> None:
    """A decision: its `sub` is not compared with the user token's.

    It is the user as the AS knows them (draft section 3.1), which is another text where the
    identity provider gives each client its own; and no ID-JAG came but for this user's token.
    """
    gateway.idp.id_jag = claims

    await id_jag_denied(gateway)
    seen("deny id_jag_invalid")


@pytest.mark.parametrize(
    "typ", ["JWT", "at+jwt", "logout+jwt", "OAUTH-ID-JAG+JWT", "", ABSENT_HERE]
)
async def test_f2_a_token_of_another_kind_is_no_id_jag(
    gateway: Gateway, typ: object, seen: Seen
) -> None:
    gateway.idp.id_jag_header = {"typ": typ}

    await id_jag_denied(gateway)
    seen("deny id_jag_invalid")


@pytest.mark.parametrize("raw", ["opaque", "a.b", "a.b.c", "e30.e30.e30", "a.b.c.d.e"])
async def test_f2_what_cannot_be_read_is_no_id_jag(gateway: Gateway, raw: str, seen: Seen) -> None:
    gateway.idp.token.dial = Dial(members={"access_token": raw})

    await id_jag_denied(gateway)
    seen("deny id_jag_invalid")


async def test_f2_the_user_token_given_back_is_no_id_jag(gateway: Gateway, seen: Seen) -> None:
    """The AS must never see the user's own token."""
    token = gateway.sign_in()
    gateway.idp.raw_id_jag = token

    await denied(gateway, Reason.ID_JAG_INVALID, token=token)

    assert exchanges(gateway) == (1, 0)
    seen("deny id_jag_invalid")


# ---- F3: what leg 2 answers


async def leg_2_answers(gateway: Gateway, reason: Reason, **members: object) -> None:
    gateway.authorization_server.token.dial = Dial(members=members)

    await denied(gateway, reason)

    assert exchanges(gateway) == (1, 1)


@pytest.mark.parametrize("kind", [ABSENT_HERE, None, "", "DPoP", "N_A", "mac", ["Bearer"]], ids=str)
async def test_f3_a_token_that_is_no_bearer_token_is_refused(
    gateway: Gateway, kind: object, seen: Seen
) -> None:
    await leg_2_answers(gateway, Reason.AS_ANSWER_INVALID, token_type=kind)
    seen("deny as_answer_invalid")


@each_no_token
async def test_f3_what_is_no_token_is_refused(gateway: Gateway, token: object, seen: Seen) -> None:
    await leg_2_answers(gateway, Reason.AS_ANSWER_INVALID, access_token=token)
    seen("deny as_answer_invalid")


@pytest.mark.parametrize(
    "scope",
    ["tickets.read admin", "tickets.read tickets.write openid", "*", 7, ["tickets.read"], "a\nb"],
    ids=repr,
)
async def test_f3_more_scope_than_asked_is_refused(
    gateway: Gateway, scope: object, seen: Seen
) -> None:
    await leg_2_answers(gateway, Reason.AS_ANSWER_INVALID, scope=scope)
    seen("deny as_answer_invalid")


async def test_f3_no_scope_at_all_is_refused(gateway: Gateway, seen: Seen) -> None:
    await leg_2_answers(gateway, Reason.SCOPE_DENIED, scope="")
    seen("deny scope_denied")


async def test_f3_another_resource_is_refused(gateway: Gateway, seen: Seen) -> None:
    await leg_2_answers(gateway, Reason.AS_ANSWER_INVALID, resource="https://wiki.corp.example/mcp")
    seen("deny as_answer_invalid")


@pytest.mark.parametrize(
    "seconds", [0, -1, -(10**9), 1.5, "", "soon", "-5", "1e3", True, None, [600], {}], ids=repr
)
async def test_f3_a_life_that_is_no_number_of_seconds_is_refused(
    gateway: Gateway, seconds: object, seen: Seen
) -> None:
    await leg_2_answers(gateway, Reason.AS_ANSWER_INVALID, expires_in=seconds)
    seen("deny as_answer_invalid")


@pytest.mark.parametrize("digits", ["1e400", "-1e400", "NaN", "Infinity", "9" * 5_000])
async def test_f3_a_life_that_no_number_holds_is_refused(
    gateway: Gateway, digits: str, seen: Seen
) -> None:
    body = f'{{"access_token": "t", "token_type": "Bearer", "expires_in": {digits}}}'
    gateway.authorization_server.token.dial = Dial(body=body.encode())

    await denied(gateway, Reason.AS_ANSWER_INVALID)
    seen("deny as_answer_invalid")


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(ABSENT, 60), ("600", 600), (86_400 * 365, 86_400), (10**30, 86_400)],
    ids=["absent", "a text of digits", "a year", "ages"],
)
async def test_f3_a_life_is_clamped_by_rule(
    gateway: Gateway, expires_in: object, seconds: int, seen: Seen
) -> None:
    """Decisions: absent, which RFC 6749 allows, means a minute; a text of digits is a number."""
    gateway.authorization_server.token.dial = Dial(members={"expires_in": expires_in})

    allowed = await gateway.call()

    (record,) = records_of(gateway, allowed)
    assert record["token_expires_at"] == gateway.time.now + seconds
    seen("allow, clamped")


# ---- F4: redirects


@each_leg
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_f4_a_redirect_is_not_followed_and_no_secret_sent_on(
    gateway: Gateway, leg: Leg, unavailable: Reason, status: int, seen: Seen
) -> None:
    async with RawPeer(saying(answer())) as elsewhere:
        leg(gateway).dial = Dial(status=status, headers={"location": elsewhere.url})

        await denied(gateway, unavailable)

        assert elsewhere.connections == 0
    assert len(leg(gateway).calls) == 1
    seen(f"deny {unavailable}")


async def test_f4_nor_is_a_redirect_of_metadata(gateway: Gateway, seen: Seen) -> None:
    async with RawPeer(saying(answer())) as elsewhere:
        redirect = Dial(status=302, headers={"location": elsewhere.url})
        gateway.authorization_server.metadata.dial = redirect

        await denied(gateway, Reason.AS_UNAVAILABLE)

        assert elsewhere.connections == 0
    seen("deny as_unavailable")


# ---- F5: the environment


async def test_f5_proxies_netrc_and_cookies_are_ignored(
    prepared: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: Seen
) -> None:
    """The doubles set a cookie with every answer."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password of-the-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with RawPeer(saying(answer())) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
        async with prepared.serving():
            for _ in range(2):
                assert (await prepared.call()).is_allow
                prepared.time.passes(600)

        assert proxy.connections == 0
    calls = [*prepared.idp.token.calls, *prepared.authorization_server.token.calls]
    assert len(calls) == 4
    assert not any("cookie" in call.headers for call in calls)
    assert not any("authorization" in call.headers for call in prepared.idp.token.calls)
    seen("allow, ignored")


# ---- F6: TLS, with certificates made for it


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The operator's own certificate authority, told of as the README says."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def certified(by: trustme.CA, name: str = "127.0.0.1", **life: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    by.issue_cert(name, **life).configure_cert(context)
    return context


def expired(authority: trustme.CA) -> ssl.SSLContext:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return certified(authority, not_before=yesterday - timedelta(days=1), not_after=yesterday)


def not_yet(authority: trustme.CA) -> ssl.SSLContext:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return certified(authority, not_before=tomorrow, not_after=tomorrow + timedelta(days=1))


def tls_1_1(context: ssl.SSLContext) -> ssl.SSLContext:
    """Speaks nothing newer. OpenSSL still can, at security level 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@asynccontextmanager
async def encrypted(
    directory: Path, *, idp: ssl.SSLContext, authorization_server: ssl.SSLContext
) -> AsyncIterator[Gateway]:
    """The service between providers that speak https, each with its certificate."""
    time = MovableTime()
    one = IdentityProvider(time)
    other = AuthorizationServer(one, time)
    one.server._context, other.server._context = idp, authorization_server
    async with one, other:
        gateway = Gateway(one, other, time, directory)
        async with gateway.serving():
            yield gateway


@pytest.fixture
def directory(prepared: Gateway) -> Path:
    """A place with a short name, for the socket."""
    return prepared.audit_file.parent


async def test_f6_a_certificate_of_the_operators_authority_passes(
    directory: Path, authority: trustme.CA, trusted: None, seen: Seen
) -> None:
    """Without this the tests below could not fail."""
    good = certified(authority)
    async with encrypted(directory, idp=good, authorization_server=good) as gateway:
        assert (await gateway.call()).is_allow
        assert gateway.idp.issuer.startswith("https://")

    seen("allow (control)")


BAD_CERTIFICATES: dict[str, Callable[[trustme.CA], ssl.SSLContext]] = {
    "expired": expired,
    "not yet valid": not_yet,
    "for another name": lambda authority: certified(authority, "auth.corp.example"),
    "for another address": lambda authority: certified(authority, "127.0.0.2"),
    "of an unknown authority": lambda authority: certified(trustme.CA()),
    "TLS 1.1": lambda authority: tls_1_1(certified(authority)),
}
each_certificate = pytest.mark.parametrize("bad", BAD_CERTIFICATES.values(), ids=BAD_CERTIFICATES)


@each_certificate
async def test_f6_an_authorization_server_that_cannot_prove_itself_hears_nothing(
    directory: Path,
    authority: trustme.CA,
    trusted: None,
    bad: Callable[[trustme.CA], ssl.SSLContext],
    seen: Seen,
) -> None:
    good = certified(authority)
    async with encrypted(directory, idp=good, authorization_server=bad(authority)) as gateway:
        await denied(gateway, Reason.AS_UNAVAILABLE)

        assert gateway.authorization_server.server.paths == []
    seen("deny as_unavailable")


@each_certificate
async def test_f6_an_identity_provider_that_cannot_prove_itself_gives_no_keys(
    directory: Path,
    authority: trustme.CA,
    trusted: None,
    bad: Callable[[trustme.CA], ssl.SSLContext],
    seen: Seen,
) -> None:
    good = certified(authority)
    async with encrypted(directory, idp=bad(authority), authorization_server=good) as gateway:
        await denied(gateway, Reason.ISSUER_KEYS_UNAVAILABLE)

        assert gateway.idp.server.paths == []
    seen("deny issuer_keys_unavailable")


async def test_f6_tls_1_1_is_what_that_server_speaks(authority: trustme.CA, seen: Seen) -> None:
    """A client that still takes it gets through: it is our side that refuses above."""
    lenient = tls_1_1(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    authority.configure_trust(lenient)
    server = await asyncio.start_server(
        lambda _reader, writer: writer.close(),
        "127.0.0.1",
        0,
        ssl=tls_1_1(certified(authority)),
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=lenient)
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    assert version == "TLSv1.1"
    seen("allow (control)")


PLAIN = ["http://auth.corp.example/token", "http://10.0.0.1/token", "http://0.0.0.0/token"]


@pytest.mark.parametrize("address", PLAIN)
async def test_f6_plain_http_is_not_spoken_to_another_machine(
    tmp_path: Path, address: str, seen: Seen
) -> None:
    """Named in the identity provider's metadata; of settings that name it the start is refused.

    From the rig no road leads there: a request would be a KeyError, and the denial `internal`.
    """
    rig = Rig(tmp_path)
    rig.idp.metadata.dial = Dial(members={"token_endpoint": address})

    refusal = Answer(await rig.ask())

    assert refusal.reason == Reason.IDP_UNAVAILABLE
    seen("deny idp_unavailable")


# ---- F7: answers without end


def endless(sent: list[int], *, most: int = 10**9) -> Talk:
    """A gigabyte, as fast as it is taken; notes how much was."""
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    async def talk(_peer: RawPeer, line: Line) -> None:
        await line.hear()
        await line.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while sum(sent) < most:
            await line.say(piece)
            sent.append(len(piece))

    return talk


@asynccontextmanager
async def leg_2_at(gateway: Gateway, talk: Talk) -> AsyncIterator[RawPeer]:
    """The service, with this peer for the token endpoint of the authorization server."""
    async with RawPeer(talk) as peer:
        registered = gateway.authorization_server.registration(token_endpoint=peer.url)
        gateway.change(
            authorization_servers={registered.issuer: registered},
            servers={
                name: replace(server, authorization_server=registered)
                for name, server in gateway.settings.servers.items()
            },
            timeouts=Timeouts(check=5, exchange=4, call=1),
        )
        async with gateway.serving():
            yield peer


async def test_f7_a_stream_of_a_gigabyte_is_cut_off(prepared: Gateway, seen: Seen) -> None:
    sent: list[int] = []
    async with leg_2_at(prepared, endless(sent)):
        await denied(prepared, Reason.AS_UNAVAILABLE)

    assert sum(sent) < 32 * MAX_ANSWER_BYTES  # what the sockets' buffers swallow included
    seen("deny as_unavailable")


async def test_f7_a_dribbling_answer_is_waited_for_only_so_long(
    prepared: Gateway, seen: Seen
) -> None:
    """A byte each 50 ms would take half a minute, and every one of them starts a read timeout anew."""
    whole = answer(b" " * 500)
    drops = saying(*(bytes([byte]) for byte in whole), every=0.05)
    begun = time.monotonic()
    async with leg_2_at(prepared, drops):
        await denied(prepared, Reason.AS_UNAVAILABLE)

    assert time.monotonic() - begun < 8
    seen("deny as_unavailable")


BOMBS: dict[str, bytes] = {
    "gzip": answer(gzip.compress(b" " * 50_000_000), "content-encoding: gzip"),
    "gzip in gzip": answer(
        gzip.compress(gzip.compress(b" " * 10_000_000)), "content-encoding: gzip, gzip"
    ),
    "ten thousand headers": answer(b"{}", *[f"x-{number}: {'y' * 50}" for number in range(10_000)]),
    "one header of a megabyte": answer(b"{}", "x: " + "y" * 1_000_000),
    "a length that lies": b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n{}",
    "no end of interim answers": b"HTTP/1.1 102 Wait\r\n\r\n" * 5_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_f7_a_bomb_does_not_go_off(prepared: Gateway, bomb: bytes, seen: Seen) -> None:
    async with leg_2_at(prepared, saying(bomb)) as peer:
        await denied(prepared, Reason.AS_UNAVAILABLE)

        assert len(peer.heard) == 1
    seen("deny as_unavailable")


async def test_f7_json_without_end_of_nesting_is_refused(gateway: Gateway, seen: Seen) -> None:
    gateway.authorization_server.token.dial = Dial(body=b'{"a":' * 40_000)

    await denied(gateway, Reason.AS_ANSWER_INVALID)
    seen("deny as_answer_invalid")


# ---- F8: whose fault it is

Row = tuple[Dial, Reason, int]
LEG_1: dict[str, Row] = {
    "the user's token": (Dial(error="invalid_grant"), Reason.SUBJECT_TOKEN_REFUSED, 401),
    "their sign-in": (
        Dial(error="insufficient_user_authentication"),
        Reason.STEP_UP_REQUIRED,
        401,
    ),
    "policy": (Dial(error="access_denied", status=403), Reason.POLICY_DENIED, 403),
    "our credential": (Dial(error="invalid_client", status=401), Reason.HUB_CLIENT_REFUSED, 503),
    "a 401 without a word": (Dial(status=401, body=b""), Reason.IDP_ANSWER_INVALID, 502),
    "a 403 without a word": (Dial(status=403, body=b"<html>"), Reason.IDP_ANSWER_INVALID, 502),
    "a code in a 200": (Dial(status=200, error="invalid_grant"), Reason.IDP_ANSWER_INVALID, 502),
    "too many": (Dial(status=429), Reason.IDP_RATE_LIMITED, 503),
    "a code in a 429": (Dial(status=429, error="invalid_grant"), Reason.IDP_RATE_LIMITED, 503),
    "a code in a 500": (Dial(status=500, error="invalid_grant"), Reason.IDP_UNAVAILABLE, 503),
    "unavailable": (Dial(status=503), Reason.IDP_UNAVAILABLE, 503),
}
LEG_2: dict[str, Row] = {
    "our ID-JAG": (Dial(error="invalid_grant"), Reason.ID_JAG_REFUSED, 502),
    "the user": (Dial(error="access_denied", status=403), Reason.USER_NOT_PROVISIONED, 403),
    "our credential": (Dial(error="invalid_client", status=401), Reason.SERVER_CLIENT_REFUSED, 503),
    "the resource": (Dial(error="invalid_target"), Reason.RESOURCE_REFUSED, 502),
    "a 401 without a word": (Dial(status=401, body=b""), Reason.AS_ANSWER_INVALID, 502),
    "too many": (Dial(status=429), Reason.AS_RATE_LIMITED, 503),
    "a code in a 500": (Dial(status=500, error="access_denied"), Reason.AS_UNAVAILABLE, 503),
}


@pytest.mark.parametrize(("dial", "reason", "status"), LEG_1.values(), ids=LEG_1)
async def test_f8_a_refusal_of_leg_1_is_told_from_an_outage(
    gateway: Gateway, dial: Dial, reason: Reason, status: int, seen: Seen
) -> None:
    gateway.idp.token.dial = dial

    refusal = await denied(gateway, reason)

    assert refusal.status == status
    seen(f"deny {reason}")


@pytest.mark.parametrize(("dial", "reason", "status"), LEG_2.values(), ids=LEG_2)
async def test_f8_a_refusal_of_leg_2_is_told_from_an_outage(
    gateway: Gateway, dial: Dial, reason: Reason, status: int, seen: Seen
) -> None:
    """Never a 401: the user's sign-in is fine, and another would not help."""
    gateway.authorization_server.token.dial = dial

    refusal = await denied(gateway, reason)

    assert refusal.status == status
    seen(f"deny {reason}")


@pytest.mark.parametrize(("status", "seconds"), [(429, 120), (503, 120), (429, 600)])
@each_leg
async def test_f8_retry_after_is_honoured(
    gateway: Gateway, leg: Leg, unavailable: Reason, status: int, seconds: int, seen: Seen
) -> None:
    leg(gateway).dial = Dial(status=status, headers={"retry-after": str(seconds)})
    first = await gateway.call()
    leg(gateway).dial = Dial()
    gateway.time.passes(seconds - 1)

    second = await gateway.call()
    gateway.time.passes(1)

    check_denial(gateway, second, Reason(first.reason))
    assert first.headers["retry-after"] == second.headers["retry-after"] == str(seconds)
    assert len(leg(gateway).calls) == 1
    assert (await gateway.call()).is_allow
    seen(f"deny {second.reason}")


async def test_f8_nobody_can_send_us_away_for_ever(gateway: Gateway, seen: Seen) -> None:
    gateway.idp.token.dial = Dial(status=429, headers={"retry-after": "9999999"})

    refusal = await denied(gateway, Reason.IDP_RATE_LIMITED)

    assert refusal.headers["retry-after"] == "600"
    seen("deny idp_rate_limited")


async def test_f8_a_refused_user_token_is_not_tried_again_and_ends_the_loop(
    gateway: Gateway, seen: Seen
) -> None:
    gateway.idp.token.dial = Dial(error="invalid_grant")
    token = gateway.sign_in()
    await denied(gateway, Reason.SUBJECT_TOKEN_REFUSED, token=token)
    gateway.time.passes(SECONDS[Reason.SUBJECT_TOKEN_REFUSED] - 1)

    await denied(gateway, Reason.SIGN_IN_LOOP, token=token)

    assert exchanges(gateway) == (1, 0)
    seen("deny sign_in_loop")


# ---- F9: what providers say in words

SPEECHES: dict[str, dict[str, object]] = {
    "a token": {"error_description": "token eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"},
    "markup": {"error_description": f"<script>alert('{PROVIDERS_WORDS}')</script>"},
    "line breaks": {"error_description": f"x\r\nx-admin: {PROVIDERS_WORDS}"},
    "an address": {"error_uri": f"https://evil.example/?{PROVIDERS_WORDS}"},
    "a code that is none": {"error": f"invalid_grant\r\n{PROVIDERS_WORDS}"},
    "a code of a thousand letters": {"error": "words-of-the-provider" * 50},
    "a code that is an object": {"error": {"words-of-the-provider": 1}},
}


@each_leg
@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
async def test_f9_what_a_provider_says_is_neither_echoed_nor_logged(
    prepared: Gateway, leg: Leg, unavailable: Reason, speech: dict[str, object], seen: Seen
) -> None:
    leg(prepared).dial = Dial(error="server_error", status=400, members=speech)
    with overheard() as logs:
        async with prepared.serving():
            refusal = await prepared.call()

    check_denial(prepared, refusal, Reason(refusal.reason))
    told = f"{refusal.response}{prepared.audit_file.read_text()}{logs.getvalue()}"
    for words in ("words-of-the-provider", "eyJhbGciOiJub25lIn0", "<script>", "evil.example"):
        assert words not in told
    seen(f"deny {refusal.reason}")


async def test_f9_a_provider_cannot_echo_our_own_secrets_through_us(
    prepared: Gateway, seen: Seen
) -> None:
    """Some put the whole request into their error page."""
    token = prepared.sign_in()
    prepared.idp.token.dial = Dial(status=500, body=f"<pre>subject_token={token}</pre>".encode())
    with overheard() as logs:
        async with prepared.serving():
            await denied(prepared, Reason.IDP_UNAVAILABLE, token=token)

    assert token not in logs.getvalue()
    seen("deny idp_unavailable")


# ---- F10: client assertions


@pytest.fixture
async def asserting(prepared: Gateway, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway whose clients prove themselves with `private_key_jwt` at both legs."""
    monkeypatch.setenv("HUB_KEY", signing_key("ES256", "hub").private_pem())
    by_key = AuthMethod.PRIVATE_KEY_JWT
    hub, at_server = client(HUB.id, "HUB_KEY", by_key), client(HUB_AT_SERVER.id, "HUB_KEY", by_key)
    provider = prepared.idp.registration(
        client=replace(hub, assertion_audience=AssertionAudience.TOKEN_ENDPOINT)
    )
    registered = prepared.authorization_server.registration(client=at_server)
    prepared.change(
        identity_providers={provider.issuer: provider},
        authorization_servers={registered.issuer: registered},
        servers={
            name: replace(server, authorization_server=registered)
            for name, server in prepared.settings.servers.items()
        },
    )
    async with prepared.serving():
        yield prepared


def assertions(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [claims_of(call.form["client_assertion"]) for call in endpoint.calls]


async def test_f10_an_assertion_is_short_and_for_its_one_receiver(
    asserting: Gateway, seen: Seen
) -> None:
    assert (await asserting.call()).is_allow

    (at_idp,) = assertions(asserting.idp.token)
    (at_server,) = assertions(asserting.authorization_server.token)
    now = asserting.time.now
    assert at_idp["aud"] == f"{asserting.idp.issuer}/token"  # as these settings have it
    assert at_server["aud"] == asserting.authorization_server.issuer
    assert (at_idp["iss"], at_idp["sub"]) == (HUB.id, HUB.id)
    assert (at_server["iss"], at_server["sub"]) == (HUB_AT_SERVER.id, HUB_AT_SERVER.id)
    for assertion in (at_idp, at_server):
        assert (assertion["iat"], assertion["exp"]) == (now, now + ASSERTION_SECONDS)
    seen("allow, short and addressed")


async def test_f10_no_assertion_is_ever_used_twice_not_even_by_a_second_try(
    asserting: Gateway, seen: Seen
) -> None:
    asserting.authorization_server.token.next = [Dial(error="invalid_grant")]
    for user in ("alice", "bob"):
        assert (await asserting.call(token=asserting.sign_in(sub=user, sid=user))).is_allow

    names = [
        assertion["jti"]
        for endpoint in (asserting.idp.token, asserting.authorization_server.token)
        for assertion in assertions(endpoint)
    ]
    assert exchanges(asserting) == (3, 3)
    assert len(set(names)) == len(names) == 6
    seen("allow, each its own")


async def test_f10_an_assertion_shows_nowhere(asserting: Gateway, seen: Seen) -> None:
    asserting.authorization_server.token.dial = Dial(error="invalid_client", status=401)

    refusal = await denied(asserting, Reason.SERVER_CLIENT_REFUSED)

    sent = asserting.authorization_server.token.calls[0].form["client_assertion"]
    assert sent not in f"{refusal.response}{asserting.audit_file.read_text()}"
    seen("deny server_client_refused")


# ---- F11: second tries

RECEIVED: dict[str, Dial] = {
    "cut off": Dial(cut=True),
    "too slow": Dial(delay=5),
    "an error": Dial(status=500),
    "unavailable": Dial(status=503),
    "too many": Dial(status=429),
    "no JSON": Dial(body=b"<html>"),
}


@each_leg
@pytest.mark.parametrize("dial", RECEIVED.values(), ids=RECEIVED)
async def test_f11_what_was_received_is_not_sent_again(
    prepared: Gateway, leg: Leg, unavailable: Reason, dial: Dial, seen: Seen
) -> None:
    """An ID-JAG that may have been redeemed is spent; a user token may have cost the user one of few."""
    prepared.change(timeouts=Timeouts(check=5, exchange=4, call=0.5))
    leg(prepared).dial = dial
    async with prepared.serving():
        refusal = await prepared.call()

    check_denial(prepared, refusal, Reason(refusal.reason))
    assert len(leg(prepared).calls) == 1
    seen(f"deny {refusal.reason}")


async def test_f11_a_peer_that_hangs_up_after_the_request_is_not_asked_again(
    prepared: Gateway, seen: Seen
) -> None:
    async with leg_2_at(prepared, saying(hangs_up=True)) as peer:
        await denied(prepared, Reason.AS_UNAVAILABLE)

        assert len(peer.heard) == 1
    seen("deny as_unavailable")


async def test_f11_a_connection_that_fails_is_tried_once_more(
    prepared: Gateway, authority: trustme.CA, trusted: None, seen: Seen
) -> None:
    """Before a byte of the request was sent: the peer hangs up during its first handshake."""
    context = certified(authority)
    token = {"access_token": "access-token-of-leg-2", "token_type": "Bearer", "expires_in": 60}

    async def talk(peer: RawPeer, line: Line) -> None:
        if peer.connections > 1:
            await line.encrypt(context)
            await saying(answer(json.dumps(token).encode()))(peer, line)

    async with RawPeer(talk) as peer:
        url = f"https://127.0.0.1:{peer.port}/token"
        registered = prepared.authorization_server.registration(token_endpoint=url)
        crm = replace(prepared.settings.servers["crm"], authorization_server=registered)
        prepared.change(authorization_servers={registered.issuer: registered}, servers={"crm": crm})
        async with prepared.serving():
            allowed = await prepared.call()

        assert allowed.authorization == "Bearer access-token-of-leg-2"
        assert (peer.connections, len(peer.heard)) == (2, 1)
    seen("allow, at the second connection")


# ---- F12: mix-ups


async def test_f12_two_servers_of_one_as_have_tokens_of_their_own(
    gateway: Gateway, seen: Seen
) -> None:
    tokens = {
        name: (await gateway.call(extensions={"mcp.server": name})).authorization
        for name in ("crm", "wiki")
    }
    again = {
        name: (await gateway.call(extensions={"mcp.server": name})).authorization
        for name in ("wiki", "crm")
    }

    asked = [call.form["resource"] for call in gateway.authorization_server.token.calls]
    assert asked == ["https://crm.corp.example/mcp", "https://wiki.corp.example/mcp"]
    assert tokens["crm"] != tokens["wiki"]
    assert again == tokens
    seen("allow, each their own")


async def test_f12_an_id_jag_for_the_other_server_is_not_redeemed_for_this_one(
    gateway: Gateway, seen: Seen
) -> None:
    await gateway.call(extensions={"mcp.server": "crm"})
    gateway.idp.raw_id_jag = gateway.idp.issued[0]

    await denied(gateway, Reason.ID_JAG_INVALID, extensions={"mcp.server": "wiki"})

    assert exchanges(gateway) == (2, 1)
    seen("deny id_jag_invalid")


async def test_f12_a_token_for_the_other_server_is_refused(gateway: Gateway, seen: Seen) -> None:
    """Where the AS says what it is for; where it does not, the request's `resource` is all there is."""
    gateway.authorization_server.token.dial = Dial(
        members={"resource": ["https://crm.corp.example/mcp"]}
    )

    await denied(gateway, Reason.AS_ANSWER_INVALID, extensions={"mcp.server": "wiki"})
    seen("deny as_answer_invalid")


@pytest.fixture
async def two(prepared: Gateway) -> AsyncIterator[AuthorizationServer]:
    """The wiki's own authorization server; the gateway serves with both."""
    async with AuthorizationServer(prepared.idp, prepared.time) as wikis:
        own = wikis.registration()
        wiki = replace(prepared.settings.servers["wiki"], authorization_server=own)
        prepared.change(
            authorization_servers=MappingProxyType(
                {**prepared.settings.authorization_servers, own.issuer: own}
            ),
            servers=MappingProxyType({**prepared.settings.servers, "wiki": wiki}),
        )
        async with prepared.serving():
            yield wikis


async def test_f12_each_server_is_served_by_its_own_as(
    prepared: Gateway, two: AuthorizationServer, seen: Seen
) -> None:
    crm = await prepared.call(extensions={"mcp.server": "crm"})
    wiki = await prepared.call(extensions={"mcp.server": "wiki"})

    assert crm.authorization.removeprefix("Bearer ") in prepared.authorization_server.holders
    assert wiki.authorization.removeprefix("Bearer ") in two.holders
    assert len(two.token.calls) == len(prepared.authorization_server.token.calls) == 1
    seen("allow, each their own")


async def test_f12_an_id_jag_for_the_other_as_is_shown_to_neither(
    prepared: Gateway, two: AuthorizationServer, seen: Seen
) -> None:
    prepared.idp.id_jag = {"aud": prepared.authorization_server.issuer}

    await denied(prepared, Reason.ID_JAG_INVALID, extensions={"mcp.server": "wiki"})

    assert two.token.calls == prepared.authorization_server.token.calls == []
    seen("deny id_jag_invalid")


@pytest.mark.parametrize("member", ["issuer", "token_endpoint"])
async def test_f12_an_as_that_names_another_one_as_itself_gets_nothing(
    prepared: Gateway, two: AuthorizationServer, member: str, seen: Seen
) -> None:
    """The classic mix-up: metadata that sends our ID-JAG and credential to somebody else."""
    honest = prepared.authorization_server
    named = {"issuer": honest.issuer, "token_endpoint": f"{honest.issuer}/token"}
    two.metadata.dial = Dial(members={member: named[member]})

    await denied(prepared, Reason.AS_METADATA_INVALID, extensions={"mcp.server": "wiki"})

    assert two.token.calls == honest.token.calls == []
    seen("deny as_metadata_invalid")
