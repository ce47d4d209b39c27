"""Replicas with a real Valkey between them: whose token it is, what it cost, and what stands there."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import structlog

from ext_authz.exchange.access_token import Lasting, Source
from ext_authz.exchange.cache_key import cache_key
from ext_authz.exchange.refresh_ahead import MAX_SECONDS
from ext_authz.exchange.shared.lease import Leases
from ext_authz.exchange.shared.seal import Seals
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.valkey import Valkey
from tests.unit.exchange.shared.conftest import CURRENT, OTHER, MakeReplica, Replica

Made = Callable[[], tuple[int, int]]


@pytest.fixture
def legs(idp: IdentityProvider, authorization_server: AuthorizationServer) -> Made:
    """How often each leg was walked."""
    return lambda: (len(idp.token.calls), len(authorization_server.token.calls))


def alice_at(replica: Replica, idp: IdentityProvider, subject: str = "alice") -> VerifiedUser:
    return replica.user(idp.sign_in(sub=subject), subject=subject)


async def token_name(valkey: Valkey) -> bytes:
    """The one name that a token is under."""
    (name,) = [name for name in await valkey.everything() if b":token:" in name]
    return name


# ---- what is shared


async def test_what_one_replica_fetched_another_need_not(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    one, other = replica(), replica()

    first = await one.token_for(alice_at(one, idp))
    second = await other.token_for(alice_at(other, idp))

    assert second == replace(first, source=Source.CACHE, legs=())
    assert second.id_jag_digest == first.id_jag_digest
    assert legs() == (1, 1)


async def test_what_is_in_memory_is_not_asked_for(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(), replica()
    for each in (one, other):
        await each.token_for(alice_at(each, idp))
    before = await valkey.client.info("stats")
    for each in (one, other):
        assert (await each.token_for(alice_at(each, idp))).source is Source.CACHE
    after = await valkey.client.info("stats")

    assert after["total_commands_processed"] - before["total_commands_processed"] == 1  # `info`


async def test_a_burst_at_two_replicas_costs_one_exchange(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    replicas = [replica(), replica()]

    tokens = await asyncio.gather(
        *(replicas[n % 2].token_for(alice_at(replicas[n % 2], idp)) for n in range(200))
    )

    assert len({token.value for token in tokens}) == 1
    assert [token.source for token in tokens].count(Source.EXCHANGE) == 1
    assert legs() == (1, 1)


async def test_what_one_replica_renewed_ahead_the_other_takes(
    replica: MakeReplica, idp: IdentityProvider, legs: Made, time: MovableTime
) -> None:
    one, other = replica(time=time), replica(time=time)
    old = await one.token_for(alice_at(one, idp))
    await other.token_for(alice_at(other, idp))

    time.passes(old.expires_at - time.now - 45)  # within its last minute, less the margin of 30 s
    for each in (one, other):
        assert (await each.token_for(alice_at(each, idp))).value == old.value
        await each.settled()
    tokens = [await each.token_for(alice_at(each, idp)) for each in (one, other)]

    assert legs() == (2, 2)
    assert {token.value for token in tokens} != {old.value}
    assert len({token.value for token in tokens}) == 1


async def test_a_renewal_that_is_refused_drops_the_token_for_all_replicas(
    replica: MakeReplica, idp: IdentityProvider, time: MovableTime
) -> None:
    one, other = replica(time=time), replica(time=time)
    old = await one.token_for(alice_at(one, idp))

    time.passes(old.expires_at - time.now - 45)
    idp.token.dial = Dial(error="access_denied")
    await one.token_for(alice_at(one, idp))
    await one.settled()

    for each in (one, other):
        assert (await denial(each.token_for(alice_at(each, idp)))).reason is Reason.POLICY_DENIED


async def test_users_never_get_one_anothers_token(
    replica: MakeReplica,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    legs: Made,
) -> None:
    replicas = [replica() for _ in range(3)]
    wanted = [(each, f"user-{n}") for n in range(20) for each in replicas for _ in range(2)]

    tokens = await asyncio.gather(
        *(each.token_for(alice_at(each, idp, name)) for each, name in wanted)
    )

    for (_, name), token in zip(wanted, tokens, strict=True):
        assert (token.subject, authorization_server.holders[token.value.reveal()]) == (name, name)
    assert legs() == (20, 20)


async def test_nothing_readable_stands_there(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one = replica()
    alice = alice_at(one, idp)
    token = await one.token_for(alice)
    everything = b"\0".join(b"\0".join(item) for item in (await valkey.everything()).items())

    for word in (token.value.reveal(), "alice", "crm", "tickets", token.id_jag_jti, idp.issuer):
        assert word.encode() not in everything
    assert cache_key(alice, one.server()).encode() not in everything


async def test_it_goes_from_there_when_it_does_from_memory(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one = replica()
    await one.token_for(alice_at(one, idp))

    left = await valkey.client.pttl(await token_name(valkey))
    assert 560_000 < left <= 570_000


async def test_a_token_of_no_length_is_kept_nowhere(
    replica: MakeReplica,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    valkey: Valkey,
) -> None:
    authorization_server.token.dial = Dial(members={"expires_in": 1})
    one = replica()
    await one.token_for(alice_at(one, idp))

    assert [name for name in await valkey.everything() if b":lease:" in name] == []


async def test_it_needs_few_commands_on_its_own_names(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey, legs: Made
) -> None:
    commands = ("eval", "get", "set", "del", "type", "strlen", "pttl", "pexpire")
    allowed = [f"+{command}" for command in commands]
    rules = ("default", "resetkeys", "~mcp-ext-authz:*", "-@all", *allowed)
    await valkey.command("ACL SETUSER", *rules)
    one, other = replica(), replica()
    idp.token.dial = Dial(delay=0.6)  # long enough for a renewal

    with structlog.testing.capture_logs() as log:
        for each in (one, other):
            await each.token_for(alice_at(each, idp))
        await one.access_tokens.drop(cache_key(alice_at(one, idp), one.server()))

    assert log == []
    assert legs() == (1, 1)


# ---- failures


async def test_a_failure_is_each_replicas_own(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    """It is told of by the provider once to each; and whoever waited for the other asks at once."""
    one, other = replica(), replica()
    idp.token.dial = Dial(error="access_denied")

    async with asyncio.timeout(1):  # less than a lease lasts
        denials = await asyncio.gather(
            *(denial(each.token_for(alice_at(each, idp))) for each in [one, other] * 20)
        )

    assert {denied.reason for denied in denials} == {Reason.POLICY_DENIED}
    assert legs() == (2, 0)


# ---- leases


async def test_an_exchange_that_takes_long_stays_the_only_one(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    """Longer than a lease lasts: it is renewed."""
    one, other = replica(), replica()
    idp.token.dial = Dial(delay=3.5)

    tokens = await asyncio.gather(*(each.token_for(alice_at(each, idp)) for each in (one, other)))

    assert len({token.value for token in tokens}) == 1
    assert legs() == (1, 1)


async def test_who_has_waited_enough_goes_alone(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    one, other = replica(), replica(wait=0.2)
    gate = asyncio.Event()
    idp.token.next = [Dial(gate=gate)]
    first = asyncio.create_task(one.token_for(alice_at(one, idp)))
    await idp.token.called.wait()

    second = await other.token_for(alice_at(other, idp))
    gate.set()

    assert second.source is Source.EXCHANGE
    assert (await first).value != second.value
    assert legs() == (2, 2)


async def test_a_replica_that_died_delays_the_others_for_its_lease_and_no_longer(
    replica: MakeReplica, idp: IdentityProvider, leases: Leases
) -> None:
    one = replica()
    alice = alice_at(one, idp)
    assert await leases.claim(Seals(CURRENT).names(cache_key(alice, one.server())))
    loop = asyncio.get_running_loop()
    started = loop.time()

    assert (await one.token_for(alice)).source is Source.EXCHANGE
    assert 1.0 < loop.time() - started < 3.0


async def test_a_late_writer_overwrites_nothing(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    """It was stopped for so long that its lease was over, and another's exchange too."""
    one, other, third = replica(), replica(), replica()
    gate = asyncio.Event()
    idp.token.next = [Dial(gate=gate)]
    late = asyncio.create_task(one.token_for(alice_at(one, idp)))
    await idp.token.called.wait()
    await valkey.empty()  # as if its time had run out
    newer = await other.token_for(alice_at(other, idp))
    gate.set()
    older = await late

    assert older.value != newer.value
    assert (await third.token_for(alice_at(third, idp))).value == newer.value


async def test_a_newer_one_can_be_asked_for(
    replica: MakeReplica, idp: IdentityProvider, authorization_server: AuthorizationServer
) -> None:
    """As is done for a token that will soon be old: the first replica's becomes everyone's."""
    one, other = replica(), replica()
    alice = alice_at(one, idp)
    key, server = cache_key(alice, one.server()), one.server()
    old = await one.token_for(alice)
    new = Lasting(
        token=replace(old, value=Secret("new"), expires_at=old.expires_at + 60), seconds=60
    )

    async def fetch() -> Lasting:
        return new

    async def no_fetch() -> Lasting:
        raise AssertionError

    first = await one.shared.token(key, alice, server, fetch, newer_than=old.expires_at)
    second = await other.shared.token(key, alice, server, no_fetch, newer_than=old.expires_at)

    assert first == new
    assert second.token.value == Secret("new")


# ---- what is dropped


async def test_what_is_dropped_is_dropped_for_all(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(), replica()
    alice = alice_at(one, idp)
    await one.token_for(alice)
    await one.access_tokens.drop(cache_key(alice, one.server()))

    assert await valkey.everything() == {}
    assert (await one.token_for(alice)).source is Source.EXCHANGE
    assert (await other.token_for(alice)).source is Source.CACHE


async def test_who_was_fetching_when_it_was_dropped_keeps_nothing_there(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(), replica()
    gate = asyncio.Event()
    idp.token.next = [Dial(gate=gate)]
    alice = alice_at(one, idp)
    fetching = asyncio.create_task(one.token_for(alice))
    await idp.token.called.wait()
    await other.access_tokens.drop(cache_key(alice, one.server()))
    gate.set()

    assert await fetching
    assert await valkey.everything() == {}


async def test_without_anything_shared_it_is_dropped_from_memory(
    hub: Replica, alice: VerifiedUser
) -> None:
    await hub.token_for(alice)
    await hub.access_tokens.drop(cache_key(alice, hub.server()))

    assert (await hub.token_for(alice)).source is Source.EXCHANGE


# ---- what is not believed


async def test_what_was_changed_is_dropped_and_said_once(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey, legs: Made
) -> None:
    one, other = replica(), replica()
    await one.token_for(alice_at(one, idp))
    name = await token_name(valkey)
    sealed = (await valkey.everything())[name]
    await valkey.client.set(name, sealed[:-1] + bytes([sealed[-1] ^ 1]), keepttl=True)

    with structlog.testing.capture_logs() as log:
        assert (await other.token_for(alice_at(other, idp))).source is Source.EXCHANGE

    assert [(line["event"], line["fault"]) for line in log] == [
        ("shared_value_refused", "not_sealed")
    ]
    assert legs() == (2, 2)
    third = replica()
    assert (await third.token_for(alice_at(third, idp))).source is Source.CACHE


async def test_what_does_not_open_is_gone_even_if_nothing_takes_its_place(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(), replica()
    await one.token_for(alice_at(one, idp))
    await valkey.client.set(await token_name(valkey), b"nonsense", px=60_000)
    idp.token.dial = Dial(error="access_denied")
    await denial(other.token_for(alice_at(other, idp)))

    assert await valkey.everything() == {}


@pytest.mark.parametrize("length", [0, 1, 7, 8, 19, 20, 35, 36, 100])
async def test_what_was_cut_off_is_dropped(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey, length: int
) -> None:
    one, other = replica(), replica()
    await one.token_for(alice_at(one, idp))
    name = await token_name(valkey)
    await valkey.client.set(name, (await valkey.everything())[name][:length], keepttl=True)

    assert (await other.token_for(alice_at(other, idp))).source is Source.EXCHANGE


async def test_values_swapped_between_users_open_for_neither(
    replica: MakeReplica,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    valkey: Valkey,
    legs: Made,
) -> None:
    one, other = replica(), replica()
    for name in ("alice", "bob"):
        await one.token_for(alice_at(one, idp, name))
    (first, second) = (await valkey.everything()).items()
    await valkey.client.set(first[0], second[1], px=500_000)
    await valkey.client.set(second[0], first[1], px=500_000)

    for name in ("alice", "bob"):
        token = await other.token_for(alice_at(other, idp, name))
        assert authorization_server.holders[token.value.reveal()] == name
    assert legs() == (4, 4)


async def test_a_value_that_is_no_text_or_too_long_is_dropped(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey, legs: Made
) -> None:
    for poison in (b"x" * 70_000, None):
        one, other = replica(), replica()
        await one.token_for(alice_at(one, idp))
        name = await token_name(valkey)
        await valkey.client.delete(name)
        if poison is None:
            await valkey.client.rpush(name, "a", "list")
        else:
            await valkey.client.set(name, poison)
        with structlog.testing.capture_logs() as log:
            assert (await other.token_for(alice_at(other, idp))).source is Source.EXCHANGE
        assert [line.get("fault") for line in log] == ["odd"]
        await valkey.empty()


async def test_a_value_that_would_stay_for_ever_is_not_used(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(), replica()
    await one.token_for(alice_at(one, idp))
    await valkey.client.persist(await token_name(valkey))

    assert (await other.token_for(alice_at(other, idp))).source is Source.EXCHANGE


@pytest.mark.parametrize("kind", ["for ever", "for long", "list"])
async def test_a_lease_that_nobody_took_delays_nobody(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey, kind: str
) -> None:
    one = replica()
    alice = alice_at(one, idp)
    (name,) = Seals(CURRENT).names(cache_key(alice, one.server()))
    lease = f"mcp-ext-authz:lease:{name}"
    if kind == "list":
        await valkey.client.rpush(lease, "a")
    else:
        await valkey.client.set(lease, "owner", ex=3600 if kind == "for long" else None)
    async with asyncio.timeout(1):
        assert (await one.token_for(alice)).source is Source.EXCHANGE


async def test_who_fills_it_with_nonsense_again_and_again_delays_nobody(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica(), replica()
    await one.token_for(alice_at(one, idp))
    name = await token_name(valkey)

    over = asyncio.Event()

    async def poison() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            await valkey.client.set(name, f"nonsense {number}", px=60_000)

    poisoning = asyncio.create_task(poison())
    async with asyncio.timeout(3):
        token = await other.token_for(alice_at(other, idp))
    over.set()
    await poisoning

    assert token.source is Source.EXCHANGE


# ---- keys


async def test_keys_are_changed_in_three_steps_without_an_exchange(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    """Each step while replicas of the one before still run: they find one another's tokens."""
    steps = [(CURRENT,), (CURRENT, OTHER), (OTHER, CURRENT), (OTHER,)]
    for before, after in itertools.pairwise(steps):
        for number, (writing, reading) in enumerate([(before, after), (after, before)]):
            name = f"user {before} {after} {number}"
            one, other = replica(writing), replica(reading)
            first = await one.token_for(alice_at(one, idp, name))
            second = await other.token_for(alice_at(other, idp, name))
            assert second.value == first.value
    assert legs() == (6, 6)


async def test_a_burst_while_keys_are_changed_costs_one_exchange(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    replicas = [replica((CURRENT, OTHER)), replica((OTHER, CURRENT))]

    await asyncio.gather(
        *(replicas[n % 2].token_for(alice_at(replicas[n % 2], idp)) for n in range(100))
    )

    assert legs() == (1, 1)


async def test_what_was_sealed_with_a_key_that_is_gone_is_of_no_use(
    replica: MakeReplica, idp: IdentityProvider, legs: Made
) -> None:
    one, other = replica((CURRENT,)), replica((OTHER,))
    await one.token_for(alice_at(one, idp))
    await other.token_for(alice_at(other, idp))

    assert legs() == (2, 2)


async def test_a_newer_value_takes_the_place_of_the_previous_keys(
    replica: MakeReplica, idp: IdentityProvider, valkey: Valkey
) -> None:
    one, other = replica((CURRENT, OTHER)), replica((OTHER, CURRENT))
    alice = alice_at(one, idp)
    old = await one.token_for(alice)
    new = Lasting(token=replace(old, expires_at=old.expires_at + 60), seconds=60)

    async def fetch() -> Lasting:
        return new

    key = cache_key(alice, one.server())
    await other.shared.token(key, alice, one.server(), fetch, newer_than=old.expires_at)

    (name,) = await valkey.everything()
    assert Seals(OTHER).names(key)[0] in name.decode()


# ---- clocks


RENEWED = int(MAX_SECONDS)  # within so many seconds of its end, a use of it begins a renewal


async def at_its_own_time(replica: Replica, idp: IdentityProvider, time: MovableTime) -> Source:
    """Where it has the token from. The providers go by its clock: they would see it is wrong."""
    time.wall = replica.time.wall
    return (await replica.token_for(alice_at(replica, idp))).source


@pytest.mark.parametrize(("ahead", "kept"), [(50, 570), (-200, 370)])
async def test_clocks_that_differ_make_no_token_live_longer(
    replica: MakeReplica,
    idp: IdentityProvider,
    valkey: Valkey,
    time: MovableTime,
    ahead: int,
    kept: int,
) -> None:
    """A clock that is ahead is found out by the server's; one that is behind makes it shorter."""
    one, other = replica(), replica()
    one.time.jumps(ahead)
    await at_its_own_time(one, idp, time)
    assert await at_its_own_time(other, idp, time) is Source.CACHE
    await valkey.empty()

    other.time.passes(kept - RENEWED - 5)
    assert await at_its_own_time(other, idp, time) is Source.CACHE
    other.time.passes(RENEWED + 6)
    assert await at_its_own_time(other, idp, time) is Source.EXCHANGE


async def test_a_clock_that_is_far_off_is_said_and_costs_an_exchange(
    replica: MakeReplica, idp: IdentityProvider, time: MovableTime
) -> None:
    one, other = replica(), replica()
    one.time.jumps(90)
    await at_its_own_time(one, idp, time)

    with structlog.testing.capture_logs() as log:
        assert await at_its_own_time(other, idp, time) is Source.EXCHANGE

    assert [line.get("fault") for line in log] == ["clocks_differ"]
