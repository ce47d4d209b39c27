"""The README's table of reasons is the table that answers are written from."""

from pathlib import Path

import pytest

from ext_authz.reasons import Reason
from ext_authz.verdict.answers import ANSWERS

README = Path(__file__).parents[3] / "README.md"
ROWS = [line for line in README.read_text().splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_stands_in_the_readme_as_it_is_answered(reason: Reason) -> None:
    answer = ANSWERS[reason]
    status = "–" if reason is Reason.ABANDONED else answer.status  # noqa: RUF001 - a dash

    assert f"| `{reason}` | {status} | {answer.meaning} | {answer.fix} |" in ROWS
