"""The decisions that wait, in the order in which they are due."""

from ext_authz.access_log.pending import Pending


def overdue(pending: Pending, now: float) -> list[str]:
    """All of them; they are closed."""
    found = []
    while (decision_id := pending.overdue(now)) is not None:
        pending.close(decision_id)
        found.append(decision_id)
    return found


def test_a_decision_is_overdue_when_its_time_is_over() -> None:
    pending = Pending(seconds=10)
    pending.expect("a", 100)
    pending.expect("b", 105)
    assert overdue(pending, 109.9) == []
    assert overdue(pending, 110) == ["a"]
    assert "b" in pending


def test_a_sign_of_life_gives_it_its_whole_time_again() -> None:
    pending = Pending(seconds=10)
    pending.expect("a", 100)
    pending.expect("b", 101)
    pending.renew("a", 108)
    assert overdue(pending, 117.9) == ["b"]
    assert overdue(pending, 118) == ["a"]


def test_a_closed_one_is_never_overdue_and_a_strange_one_is_not_renewed_into_being() -> None:
    pending = Pending(seconds=10)
    pending.expect("a", 100)
    assert pending.close("a")
    assert not pending.close("a")
    pending.renew("a", 101)
    assert overdue(pending, 1000) == []


def test_beyond_its_room_the_oldest_are_let_go_and_counted() -> None:
    pending = Pending(seconds=10, most=3)
    for number in range(5):
        pending.expect(str(number), 100 + number)
    assert (len(pending), pending.let_go) == (3, 2)
    assert overdue(pending, 1000) == ["2", "3", "4"]
