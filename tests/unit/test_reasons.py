"""A denial on its way to the verdict."""

import pytest

from ext_authz.reasons import Denied, Reason


@pytest.mark.parametrize("reason", Reason)
def test_a_denial_prints_its_code_and_never_its_detail(reason: Reason) -> None:
    denied = Denied(reason, "the operator's words", retry_after=7)

    assert str(denied) == reason.value
    assert "operator" not in repr(denied)
    assert (denied.reason, denied.detail, denied.retry_after) == (reason, "the operator's words", 7)
