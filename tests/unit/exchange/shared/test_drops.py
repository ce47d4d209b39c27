"""What is to be forgotten is forgotten on the server, as soon as that can be told."""

import asyncio
from collections.abc import Callable

import pytest
import structlog

from ext_authz.exchange.access_token import Source
from ext_authz.exchange.cache_key import cache_key
from ext_authz.exchange.shared import drops as module
from ext_authz.exchange.shared.breaker import Unavailable
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.valkey import Valkey
from tests.unit.exchange.shared.conftest import MakeReplica

CALL_SECONDS = 0.1


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.05)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it is not told
            await asyncio.sleep(0.01)


async def test_what_the_server_did_not_hear_is_not_taken_from_it(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 60)
    one = replica(seconds=CALL_SECONDS)
    alice = one.user(idp.sign_in())
    key = cache_key(alice, one.server())
    old = await one.token_for(alice)
    valkey.pause()
    for _ in range(2):
        await one.access_tokens.drop(key)
    valkey.resume()
    one.time.passes(5)

    new = await one.token_for(alice)
    assert (new.source, new.value == old.value) == (Source.EXCHANGE, False)


async def test_what_it_has_not_heard_yet_is_not_asked_of_it(
    replica: MakeReplica, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be reached again, but has not been told yet."""

    async def unheard(_: object) -> None:
        raise Unavailable

    one = replica()
    alice = one.user(idp.sign_in())
    await one.token_for(alice)
    monkeypatch.setattr(one.shared._drops._leases, "delete", unheard)
    await one.access_tokens.drop(cache_key(alice, one.server()))

    assert (await one.token_for(alice)).source is Source.EXCHANGE


async def test_it_hears_as_soon_as_it_is_back(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(seconds=CALL_SECONDS), replica()
    alice = one.user(idp.sign_in())
    key = cache_key(alice, one.server())
    await one.token_for(alice)
    valkey.pause()
    await one.access_tokens.drop(key)
    await asyncio.sleep(0.2)
    valkey.resume()
    one.time.passes(5)
    await until(lambda: not one.shared._drops.owes(key))

    assert await valkey.everything() == {}
    assert (await other.token_for(alice)).source is Source.EXCHANGE


async def test_at_the_end_it_is_told_once_more(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one = replica(seconds=CALL_SECONDS)
    alice = one.user(idp.sign_in())
    await one.token_for(alice)
    valkey.pause()
    await one.access_tokens.drop(cache_key(alice, one.server()))
    valkey.resume()
    one.time.passes(5)
    await one.shared.close()

    assert await valkey.everything() == {}


async def test_what_it_never_heard_is_said(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one = replica(seconds=CALL_SECONDS)
    alice = one.user(idp.sign_in())
    valkey.kill()
    with structlog.testing.capture_logs() as log:
        await one.access_tokens.drop(cache_key(alice, one.server()))
        await one.shared.close()

    assert ("shared_cache_not_told", 1) in [(line["event"], line.get("dropped")) for line in log]


async def test_it_remembers_so_many(
    replica: MakeReplica, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OWED", 3)
    one = replica(seconds=CALL_SECONDS)
    valkey.kill()
    for number in range(4):
        await one.shared.drop(f"key-{number}")

    assert [one.shared._drops.owes(f"key-{number}") for number in range(4)] == [
        False,
        True,
        True,
        True,
    ]
