"""The bytes that are sealed: one strict format, believed only for the user and server they are for."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ext_authz.exchange.access_token import AccessToken, Lasting, Source
from ext_authz.exchange.shared.token_format import FromTheFuture, Unusable, packed, unpacked
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.secret import Secret
from ext_authz.settings.settings import McpServer
from tests.doubles.hub import Hub
from tests.doubles.movable_time import MovableTime

HOUR = 3600


@pytest.fixture
def server(hub: Hub) -> McpServer:
    return hub.server()


@pytest.fixture
def token(alice: VerifiedUser, server: McpServer, time: MovableTime) -> AccessToken:
    return AccessToken(
        value=Secret("access-token"),
        issuer=alice.issuer,
        subject=alice.subject,
        resource=server.resource,
        scope=("tickets.read",),
        expires_at=time.now + 600,
        id_jag_jti="jti",
        source=Source.EXCHANGE,
        id_jag_digest=b"d" * 32,
    )


def changed(token: AccessToken, time: MovableTime, **members: Any) -> bytes:
    """As it is packed, but with other members; ... stands for none."""
    read = json.loads(packed(Lasting(token=token, seconds=570), time.clock))
    read |= members
    return json.dumps({name: value for name, value in read.items() if value is not ...}).encode()


@pytest.mark.parametrize("digest", [b"d" * 32, None])
def test_what_was_packed_is_unpacked(
    alice: VerifiedUser,
    server: McpServer,
    token: AccessToken,
    time: MovableTime,
    digest: bytes | None,
) -> None:
    token = replace(token, id_jag_digest=digest)
    read = packed(Lasting(token=token, seconds=570), time.clock)

    assert unpacked(read, alice, server, time.clock, seconds=900) == Lasting(
        token=replace(token, source=Source.CACHE), seconds=570
    )


@pytest.mark.parametrize(
    ("seconds", "passed", "left"), [(100, 0, 100), (900, 500, 70), (900, 600, -30), (-1, 0, -1)]
)
def test_it_lasts_as_long_as_the_shortest_of_its_times(
    alice: VerifiedUser,
    server: McpServer,
    token: AccessToken,
    time: MovableTime,
    seconds: float,
    passed: float,
    left: float,
) -> None:
    read = packed(Lasting(token=token, seconds=570), time.clock)
    time.passes(passed)

    assert unpacked(read, alice, server, time.clock, seconds=seconds).seconds == left


def test_it_never_lasts_longer_than_an_hour_from_when_it_was_fetched(
    alice: VerifiedUser, server: McpServer, token: AccessToken, time: MovableTime
) -> None:
    read = packed(
        Lasting(token=replace(token, expires_at=time.now + 86_400), seconds=HOUR), time.clock
    )
    time.passes(HOUR - 10)
    assert unpacked(read, alice, server, time.clock, seconds=86_400).seconds == 10

    time.jumps(-HOUR - 30)
    assert unpacked(read, alice, server, time.clock, seconds=86_400).seconds == HOUR


def test_who_was_ahead_by_much_is_not_believed(
    alice: VerifiedUser, server: McpServer, token: AccessToken, time: MovableTime
) -> None:
    read = packed(Lasting(token=token, seconds=570), time.clock)
    time.jumps(-60)
    assert unpacked(read, alice, server, time.clock, seconds=900)

    time.jumps(-1)
    with pytest.raises(FromTheFuture):
        unpacked(read, alice, server, time.clock, seconds=900)


def test_a_server_without_scopes_takes_any(
    alice: VerifiedUser, hub: Hub, token: AccessToken, time: MovableTime
) -> None:
    read = changed(token, time, scope=["anything"])

    lasting = unpacked(read, alice, hub.server(scopes=()), time.clock, seconds=900)
    assert lasting.token.scope == ("anything",)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"access_token": "two words"}, "malformed"),
        ({"access_token": "line\r\nbreak"}, "malformed"),
        ({"access_token": ""}, "malformed"),
        ({"access_token": 7}, "malformed"),
        ({"access_token": ...}, "malformed"),
        ({"issuer": "https://other.example"}, "of_another"),
        ({"subject": "bob"}, "of_another"),
        ({"subject": None}, "malformed"),
        ({"resource": "https://wiki.corp.example/mcp"}, "of_another"),
        ({"scope": "tickets.read"}, "malformed"),
        ({"scope": [1]}, "malformed"),
        ({"scope": ["tickets.read", "admin"]}, "too_wide"),
        ({"expires_at": "1795000600"}, "malformed"),
        ({"expires_at": True}, "malformed"),
        ({"expires_at": 1.5}, "malformed"),
        ({"expires_at": 2**60}, "too_long"),
        ({"expires_at": 1_795_000_500}, "too_long"),
        ({"until": 1_795_003_601, "expires_at": 1_795_086_400}, "too_long"),
        ({"until": 1_794_999_999}, "too_long"),
        ({"fetched_at": -1}, "too_long"),
        ({"fetched_at": False}, "malformed"),
        ({"id_jag_jti": None}, "malformed"),
        ({"id_jag_digest": "xy"}, "malformed"),
        ({"id_jag_digest": "00"}, "malformed"),
        ({"one_more": 1}, "malformed"),
    ],
    ids=str,
)
def test_what_cannot_have_been_kept_for_them_is_refused(
    alice: VerifiedUser,
    server: McpServer,
    token: AccessToken,
    time: MovableTime,
    members: dict[str, Any],
    code: str,
) -> None:
    with pytest.raises(Unusable) as unusable:
        unpacked(changed(token, time, **members), alice, server, time.clock, seconds=900)

    assert str(unusable.value) == code


@pytest.mark.parametrize("read", [b"", b"[]", b"{}", b"null", b"{", b'{"a":1,"a":1}', b"\xff"])
def test_what_is_no_such_object_is_refused(
    alice: VerifiedUser, server: McpServer, time: MovableTime, read: bytes
) -> None:
    with pytest.raises(Unusable):
        unpacked(read, alice, server, time.clock, seconds=900)
