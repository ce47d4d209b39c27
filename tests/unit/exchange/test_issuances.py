"""How many ID-JAGs a user was issued, and when the operator hears of it."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ext_authz.exchange.issuances import Issuances
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.settings.settings import McpServer, Quota
from tests.doubles.hub import Hub
from tests.doubles.movable_time import MovableTime
from tests.unit.trails import ALICE, CRM

DAY = 24 * 3600
QUOTA = Quota(exchanges=10, days=30)


@pytest.fixture
def issuances(time: MovableTime) -> Issuances:
    return counting(time)


@pytest.fixture
def crm(hub: Hub) -> McpServer:
    return hub.server()


def counting(time: MovableTime, quota: Quota = QUOTA, **more: Any) -> Issuances:
    return Issuances(quota, time.clock, lambda issuer, subject: f"hash of {subject}", **more)


def issue(issuances: Issuances, user: VerifiedUser, server: McpServer, times: int = 1) -> list[str]:
    """So many; gives the events that were logged."""
    with capture_logs() as lines:
        for _ in range(times):
            issuances.count(user, server)
    return [line["event"] for line in lines]


# ---- the count


def test_each_issuance_counts_for_its_user_and_authorization_server(
    issuances: Issuances, hub: Hub, alice: VerifiedUser, crm: McpServer
) -> None:
    bob = hub.user("token", subject="bob")
    issue(issuances, alice, crm, 3)
    issue(issuances, bob, crm)

    assert (issuances.used(alice, crm), issuances.used(bob, crm), issuances.issued) == (3, 1, 4)
    assert issuances.used(hub.user("token", subject="carol"), crm) == 0


def test_two_servers_of_one_client_share_its_quota(
    issuances: Issuances, hub: Hub, alice: VerifiedUser, crm: McpServer
) -> None:
    issue(issuances, alice, crm)
    issue(issuances, alice, hub.server(name="wiki", resource="https://wiki.corp.example/mcp"))

    assert issuances.used(alice, crm) == 2


def test_another_session_of_the_user_uses_the_same_quota(
    issuances: Issuances, hub: Hub, alice: VerifiedUser, crm: McpServer
) -> None:
    issue(issuances, alice, crm)
    issue(issuances, hub.user("token", session="session-2"), crm)

    assert issuances.used(alice, crm) == 2


def test_what_is_older_than_the_window_is_forgotten_by_and_by(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer, time: MovableTime
) -> None:
    for _ in range(3):
        issue(issuances, alice, crm, 2)
        time.passes(10 * DAY)
    counts = []
    for _ in range(5):
        counts.append(issuances.used(alice, crm))
        time.passes(10 * DAY + 1)

    assert counts == [6, 4, 2, 0, 0]


def test_what_was_long_ago_is_all_forgotten(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer, time: MovableTime
) -> None:
    issue(issuances, alice, crm, 5)
    time.passes(10_000 * DAY)

    assert issuances.used(alice, crm) == 0


def test_a_clock_that_is_set_back_makes_nothing_undone(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer, time: MovableTime
) -> None:
    issue(issuances, alice, crm, 5)
    time.jumps(-300 * DAY)
    issue(issuances, alice, crm)

    assert issuances.used(alice, crm) == 6


@given(
    waits=st.lists(st.floats(0, 20 * DAY), max_size=60),
    days=st.sampled_from([0.5, 1.0, 7.0, 30.0, 366.0]),
)
def test_the_count_is_never_below_the_true_one_nor_older_than_a_step(
    waits: list[float], days: float
) -> None:
    time = MovableTime()
    issuances = counting(time, Quota(exchanges=1_000, days=days))
    times: list[float] = []
    for wait in waits:
        time.passes(wait)
        times.append(time.wall)
        issuances.count(ALICE, CRM)
        used, window = issuances.used(ALICE, CRM), days * DAY
        assert used >= sum(time.wall - at < window for at in times)
        assert used <= sum(time.wall - at <= window * 31 / 30 + 1 for at in times)


# ---- warnings


def test_the_operator_is_warned_once_when_it_is_nearly_used_and_once_when_it_is_used_up(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer
) -> None:
    events = [issue(issuances, alice, crm) for _ in range(30)]

    assert events[7] == ["quota_nearly_used"]
    assert events[9] == ["quota_used_up"]
    assert sum(map(len, events)) == 2
    assert (issuances.nearly_used, issuances.used_up) == (1, 1)


def test_each_user_is_warned_of(
    issuances: Issuances, hub: Hub, alice: VerifiedUser, crm: McpServer
) -> None:
    bob = hub.user("token", subject="bob")

    assert issue(issuances, alice, crm, 8) == issue(issuances, bob, crm, 8)
    assert issuances.nearly_used == 2


def test_a_user_is_warned_of_again_after_having_been_below(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer, time: MovableTime
) -> None:
    issue(issuances, alice, crm, 12)
    time.passes(40 * DAY)

    assert issue(issuances, alice, crm, 12) == ["quota_nearly_used", "quota_used_up"]


def test_nobody_is_warned_of_again_for_hovering_at_the_end(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer, time: MovableTime
) -> None:
    """Ten a month, evenly: each time that one leaves the window, another comes."""
    events = []
    for _ in range(60):
        events += issue(issuances, alice, crm)
        time.passes(3 * DAY)

    assert events == ["quota_nearly_used", "quota_used_up"]


def test_a_quota_of_one_is_used_up_by_the_first(
    time: MovableTime, alice: VerifiedUser, crm: McpServer
) -> None:
    issuances = counting(time, Quota(exchanges=1, days=1))

    assert issue(issuances, alice, crm, 3) == ["quota_used_up"]


def test_a_warning_says_whose_and_where_and_never_the_users_name(
    issuances: Issuances, alice: VerifiedUser, crm: McpServer
) -> None:
    with capture_logs() as lines:
        for _ in range(8):
            issuances.count(alice, crm)

    assert lines == [
        {
            "room": "exchange",
            "event": "quota_nearly_used",
            "log_level": "warning",
            "issuer": alice.issuer,
            "authorization_server": crm.authorization_server.issuer,
            "server": "crm",
            "user": "hash of alice",
            "used": 8,
            "quota": 10,
            "days": 30,
        }
    ]


# ---- bounds


def test_the_user_who_was_counted_longest_ago_goes_first(
    time: MovableTime, hub: Hub, crm: McpServer
) -> None:
    issuances = counting(time, max_users=3)
    users = {name: hub.user("token", subject=name) for name in "abcd"}
    for name in "abcad":
        issuances.count(users[name], crm)

    assert [issuances.used(user, crm) for user in users.values()] == [2, 0, 1, 1]
    assert len(issuances) == 3


def test_a_user_takes_little_memory(time: MovableTime, hub: Hub, crm: McpServer) -> None:
    issuances = counting(time, max_users=2_000)
    users = [hub.user("token", subject=f"user-{number}") for number in range(3_000)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for user in users:
            issuances.count(user, crm)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert taken / 2_000 < 600
