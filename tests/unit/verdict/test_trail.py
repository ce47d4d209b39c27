"""The trail of a Check, at its beginning."""

import re

import pytest

from ext_authz.clock import Clock
from ext_authz.verdict.trail import Trail
from tests.unit.trails import ALICE, CALL, CRM, HER_TOKEN, USER_TOKEN, facts

PRODUCTS = {"facts": facts(), "server": CRM, "message": CALL, "user": ALICE, "token": HER_TOKEN}


def begin_at(wall: float) -> Trail:
    return Trail.begin(Clock(wall=lambda: wall, monotonic=lambda: 5.0))


def test_a_check_begins_with_the_time_and_nothing_else_known() -> None:
    trail = begin_at(1_795_000_000.25)

    assert (trail.started_wall, trail.started_monotonic) == (1_795_000_000.25, 5.0)
    assert {trail.facts, trail.server, trail.message, trail.user, trail.token} == {None}


def test_a_decision_id_is_sixteen_bytes_in_hex() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", begin_at(1_795_000_000.25).decision_id)


def test_a_decision_id_begins_with_its_milliseconds_in_hex() -> None:
    assert int(begin_at(1_795_000_000.25).decision_id[:12], 16) == 1_795_000_000_250


def test_decision_ids_sort_by_time() -> None:
    times = [1_795_000_000 + step / 1000 for step in range(50)]
    ids = [begin_at(time).decision_id for time in times]

    assert ids == sorted(ids)


def test_no_two_decision_ids_are_alike() -> None:
    assert len({begin_at(1_795_000_000.0).decision_id for _ in range(1000)}) == 1000


@pytest.mark.parametrize("stage", PRODUCTS)
def test_a_trail_takes_what_its_stage_gives(stage: str) -> None:
    trail = begin_at(1_795_000_000.0)
    setattr(trail, stage, PRODUCTS[stage])

    assert getattr(trail, stage) is PRODUCTS[stage]


@pytest.mark.parametrize("stage", PRODUCTS)
@pytest.mark.parametrize("stray", [USER_TOKEN, {}, object(), 0], ids=["text", "dict", "any", "0"])
def test_a_trail_takes_no_stray(stage: str, stray: object) -> None:
    trail = begin_at(1_795_000_000.0)
    with pytest.raises(TypeError) as error:
        setattr(trail, stage, stray)

    assert getattr(trail, stage) is None
    assert USER_TOKEN not in str(error.value)


@pytest.mark.parametrize("stage", PRODUCTS)
def test_no_stage_can_give_what_another_gives(stage: str) -> None:
    trail = begin_at(1_795_000_000.0)
    for other in PRODUCTS.keys() - {stage}:
        with pytest.raises(TypeError):
            setattr(trail, stage, PRODUCTS[other])
