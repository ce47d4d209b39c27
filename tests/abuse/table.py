"""The table that ends a run of this suite: each abuse by its id, and what became of it."""

import re
from collections import Counter, defaultdict
from typing import Final

import pytest

# The threat list: so many ids in each group.
GROUPS: Final = {"A": 9, "B": 10, "C": 7, "D": 12, "E": 7, "F": 12, "G": 9, "H": 7, "I": 8, "J": 7}
NOT_BUILT: Final = {
    "J7": "not built: there is no SAML path",
}
IDS: Final = [f"{group}{number}" for group, most in GROUPS.items() for number in range(1, most + 1)]
_SUITE: Final = "tests/abuse/"
_NAMED: Final = re.compile(r"test_([a-j])([0-9]{1,2})_")


def id_of(test: str) -> str | None:
    """The id in the name of a test; None where it has none."""
    found = _NAMED.match(test)
    return found and f"{found[1].upper()}{found[2]}"


class Table:
    """Gathers verdicts and outcomes by id, and prints them where nothing but this suite ran."""

    def __init__(self) -> None:
        self._verdicts: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._others = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        abuse = id_of(report.nodeid.split("::")[1])
        self._others |= not report.nodeid.startswith(_SUITE)
        if abuse is None or (report.when != "call" and report.passed):
            return
        self._outcomes[abuse][report.outcome] += 1
        for name, value in report.user_properties:
            if name == "verdict":
                self._verdicts[abuse][str(value)] = None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._others or not self._outcomes:
            return
        terminalreporter.section("abuse")
        terminalreporter.write_line(f"{'id':<4} {'tests':<12} verdict seen")
        for abuse in IDS:
            if abuse in self._outcomes or abuse in NOT_BUILT:
                terminalreporter.write_line(self._row(abuse))

    def _row(self, abuse: str) -> str:
        outcomes = self._outcomes.get(abuse, Counter[str]()).items()
        counted = ", ".join(f"{number} {outcome}" for outcome, number in outcomes)
        verdicts = "; ".join(self._verdicts.get(abuse, {}))
        return f"{abuse:<4} {counted or '-':<12} {verdicts or NOT_BUILT.get(abuse, '-')}"
