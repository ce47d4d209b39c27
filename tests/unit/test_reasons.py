"""A denial on its way to the verdict."""

import pytest

from ext_authz.leg import Leg
from ext_authz.reasons import Denied, Reason


@pytest.mark.parametrize("reason", Reason)
def test_a_denial_prints_its_code_and_never_its_detail(reason: Reason) -> None:
    denied = Denied(reason, "the operator's words", retry_after=7)

    assert str(denied) == reason.value
    assert "operator" not in repr(denied)
    assert (denied.reason, denied.detail, denied.retry_after) == (reason, "the operator's words", 7)


def test_a_copy_says_the_same_and_is_another() -> None:
    legs = (Leg(number=1, status=429, milliseconds=1.5),)
    denied = Denied(Reason.IDP_RATE_LIMITED, "status 429", retry_after=7, legs=legs)

    copy = denied.copy()

    assert copy is not denied
    assert vars(copy) == vars(denied)
    assert copy.legs == legs
