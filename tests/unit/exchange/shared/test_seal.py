"""What leaves the process is unreadable, opens where it was put, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.exchange.shared.seal import NotSealed, Seals
from tests.unit.exchange.shared.conftest import CURRENT, OTHER

KEY = "a" * 64
HEADER = 8 + 12  # key id and nonce


@given(value=st.binary(max_size=2000).map(lambda value: value.rstrip(b" ")))
def test_what_was_sealed_opens(value: bytes) -> None:
    seals = Seals(CURRENT)

    assert seals.open(KEY, seals.seal(KEY, value)) == value


def test_nothing_of_it_can_be_read() -> None:
    sealed = Seals(CURRENT).seal(KEY, b"a token of alice's")

    assert b"token" not in sealed
    assert KEY.encode() not in sealed
    assert CURRENT[:8] not in sealed


def test_no_two_are_alike() -> None:
    seals = Seals(CURRENT)

    assert len({seals.seal(KEY, b"value")[8:20] for _ in range(1000)}) == 1000


def test_its_length_tells_little() -> None:
    seals = Seals(CURRENT)

    assert {len(seals.seal(KEY, b"x" * length)) for length in range(1, 513)} == {HEADER + 512 + 16}


def test_it_opens_for_no_other_cache_key() -> None:
    seals = Seals(CURRENT)
    sealed = seals.seal(KEY, b"value")

    for other in ("b" * 64, KEY[:-1], KEY + "a", ""):
        with pytest.raises(NotSealed):
            seals.open(other, sealed)


@given(data=st.data())
def test_not_one_bit_can_be_changed(data: st.DataObject) -> None:
    seals = Seals(CURRENT)
    sealed = bytearray(seals.seal(KEY, b"value"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(NotSealed):
        seals.open(KEY, bytes(sealed))


@given(sealed=st.binary(max_size=100))
def test_no_other_bytes_open(sealed: bytes) -> None:
    with pytest.raises(NotSealed):
        Seals(CURRENT, OTHER).open(KEY, sealed)


@pytest.mark.parametrize("length", range(HEADER + 16))
def test_what_is_too_short_does_not_open(length: int) -> None:
    seals = Seals(CURRENT)

    with pytest.raises(NotSealed):
        seals.open(KEY, seals.seal(KEY, b"value")[:length])


def test_either_key_opens_and_the_current_one_seals() -> None:
    older, both, newer = Seals(CURRENT), Seals(OTHER, CURRENT), Seals(OTHER)

    assert both.open(KEY, older.seal(KEY, b"value")) == b"value"
    assert newer.open(KEY, both.seal(KEY, b"value")) == b"value"
    with pytest.raises(NotSealed):
        older.open(KEY, both.seal(KEY, b"value"))


def test_names_tell_nothing_without_the_key() -> None:
    """A cache key could be computed by whoever knows the settings and a user's name."""
    name, previous = Seals(CURRENT, OTHER).names(KEY)

    assert (name,) == Seals(CURRENT).names(KEY)
    assert (previous,) == Seals(OTHER).names(KEY)
    assert len({name, previous, KEY}) == 3
    assert Seals(CURRENT).names("b" * 64) != (name,)


def test_a_previous_key_that_is_the_current_one_is_one_key() -> None:
    assert Seals(CURRENT, CURRENT).names(KEY) == Seals(CURRENT).names(KEY)
