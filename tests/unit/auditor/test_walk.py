"""The fast look at a record says what the thorough one says."""

from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.chain import NotLinked, continues, unlink
from ext_authz.auditor.parts import parts
from ext_authz.auditor.walk import joined, walk
from tests.unit.auditor.chains import chain_of

CHAIN = chain_of(40, every=10)
DATA = b"".join(CHAIN.lines)
LINKS = [unlink(line[:-1]) for line in CHAIN.lines]


def thorough(line: bytes, number: int) -> bytes | None:
    """What `continues` should say of `line` at the place of record `number`."""
    before = LINKS[number]
    try:
        found = unlink(line)
    except NotLinked:
        return None
    expected = (before.chain_uid, before.sequence, before.previous, True)
    if (found.chain_uid, found.sequence, found.previous, found.is_intact) != expected:
        return None
    return found.fingerprint.encode()


@given(
    number=st.integers(0, 39),
    place=st.integers(0, 39),
    at=st.none() | st.integers(0, 2000),
    byte=st.integers(0, 255),
    cut=st.integers(0, 3),
)
def test_continues_says_what_unlink_says(
    number: int, place: int, at: int | None, byte: int, cut: int
) -> None:
    line = bytearray(CHAIN.lines[number][:-1])
    if at is not None and at < len(line):
        line[at] = byte
    given_line = bytes(line[: len(line) - cut])
    link = LINKS[place]

    found = continues(given_line, link.chain_uid.encode(), link.previous.encode(), link.sequence)

    assert found == thorough(given_line, place)


@given(size=st.integers(1, len(DATA) + 5), cut=st.integers(0, 50), at=st.integers(0, len(DATA)))
def test_a_walk_in_parts_finds_what_one_walk_finds(size: int, cut: int, at: int) -> None:
    data = DATA[:at] + DATA[at + cut :]
    walked = [walk(data, *part) for part in parts(data, 0, len(data), size=size)]

    assert joined(walked) == walk(data, 0, len(data))
