"""The service without its audit, to measure what the audit costs: `serve FILE`."""

import sys

from ext_authz.__main__ import main
from ext_authz.audit.decision_log import DecisionLog


async def _record_nothing(_decisions: DecisionLog, *_: object, **_and: object) -> None:
    """In the place of what makes the record, hands it over and waits for it."""


if __name__ == "__main__":
    setattr(DecisionLog, "record", _record_nothing)  # noqa: B010 - to mypy it is no variable
    sys.exit(main())
