"""The closed table of answers, held against its own rules."""

import re

import pytest

from ext_authz.reasons import Reason
from ext_authz.verdict.answers import ANSWERS

# `error` values of RFC 6750 section 3.1 and RFC 9470 section 3; "" sends a challenge without one.
CHALLENGES = {"", "invalid_token", "insufficient_user_authentication"}


def test_every_reason_has_an_answer_and_nothing_else_has() -> None:
    assert set(ANSWERS) == set(Reason)


def test_codes_are_unique() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason.__members__)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ANSWERS[Reason.INTERNAL] = ANSWERS[Reason.ABANDONED]  # type: ignore[index]


@pytest.mark.parametrize("reason", Reason)
def test_a_code_is_its_name_in_snake_case(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason.value)
    assert reason.value == reason.name.lower()


@pytest.mark.parametrize("reason", Reason)
def test_a_status_is_one_that_mcp_clients_do_not_take_for_an_old_server(reason: Reason) -> None:
    assert ANSWERS[reason].status in {401, 403, 502, 503}


@pytest.mark.parametrize("reason", Reason)
def test_a_challenge_goes_with_401_and_with_nothing_else(reason: Reason) -> None:
    answer = ANSWERS[reason]

    assert (answer.status == 401) is (answer.challenge is not None)
    assert answer.challenge is None or answer.challenge in CHALLENGES


@pytest.mark.parametrize("reason", Reason)
def test_401_answers_only_what_a_new_sign_in_mends(reason: Reason) -> None:
    of_the_sign_in = reason.value.startswith("token_") or reason in {
        Reason.SUBJECT_TOKEN_REFUSED,
        Reason.STEP_UP_REQUIRED,
    }

    assert (ANSWERS[reason].status == 401) is of_the_sign_in


@pytest.mark.parametrize("reason", Reason)
def test_503_says_when_to_come_back_and_nothing_else_does(reason: Reason) -> None:
    answer = ANSWERS[reason]
    is_seen = reason is not Reason.ABANDONED  # that answer reaches nobody

    assert (answer.retry_after is not None) is (answer.status == 503 and is_seen)
    assert answer.retry_after is None or 1 <= answer.retry_after <= 60


@pytest.mark.parametrize("reason", Reason)
def test_the_callers_text_is_one_sentence_that_names_no_party(reason: Reason) -> None:
    text = ANSWERS[reason].text

    assert re.fullmatch(r"[A-Z][a-zA-Z -]+\.", text)
    assert not re.search(r"provider|issuer|envoy|scope|claim|ID-JAG|audit", text, re.IGNORECASE)


@pytest.mark.parametrize("reason", Reason)
def test_the_operator_is_told_what_it_means_and_what_to_do(reason: Reason) -> None:
    answer = ANSWERS[reason]

    assert answer.meaning.endswith(".")
    assert answer.fix.endswith(".")
