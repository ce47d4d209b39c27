"""Keyed fingerprints of tokens, and of users where nobody is to read their names."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.audit.fingerprint import SHORTEST_KEY, Fingerprints, KeyTooShort

KEY = "0123456789abcdef0123456789abcdef"
DIGEST = hashlib.sha256(b"a token").digest()


def test_a_fingerprint_is_the_hmac_of_the_tokens_hash_under_the_named_key() -> None:
    """Recomputed from RFC 2104's words with the standard library: no code of ours on this side."""
    key_id = hmac.new(KEY.encode(), b"mcp-ext-authz fingerprint key id", "sha256").hexdigest()[:8]
    expected = hmac.new(KEY.encode(), DIGEST, "sha256").hexdigest()

    assert Fingerprints(KEY).of(DIGEST) == f"{key_id}:{expected}"
    assert Fingerprints(KEY).key_id == key_id


def test_a_subject_is_hashed_with_its_issuer() -> None:
    expected = hmac.new(
        KEY.encode(), hashlib.sha256(b"https://idp.example\0alice").digest(), "sha256"
    ).hexdigest()
    fingerprints = Fingerprints(KEY)

    found = fingerprints.of_subject("https://idp.example", "alice")

    assert found == f"hmac:{fingerprints.key_id}:{expected}"


def test_another_key_gives_another_fingerprint_and_says_so() -> None:
    first, second = Fingerprints(KEY), Fingerprints(KEY[::-1])

    assert first.key_id != second.key_id
    assert first.of(DIGEST).partition(":")[2] != second.of(DIGEST).partition(":")[2]


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_users_never_share_a_fingerprint(one: tuple[str, str], other: tuple[str, str]) -> None:
    """An issuer is a URL: it holds no NUL."""
    fingerprints = Fingerprints(KEY)
    ours, theirs = ((a.replace("\0", ""), b) for a, b in (one, other))

    assert (fingerprints.of_subject(*ours) == fingerprints.of_subject(*theirs)) is (ours == theirs)


@pytest.mark.parametrize("key", ["", "k" * (SHORTEST_KEY - 1)])
def test_a_key_that_could_be_guessed_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(KeyTooShort, match=r"fewer than 32 characters") as caught:
        Fingerprints(key)

    assert "k" * 8 not in str(caught.value)


def test_no_form_of_it_shows_the_key() -> None:
    assert KEY not in f"{Fingerprints(KEY)!r} {Fingerprints(KEY)}"
