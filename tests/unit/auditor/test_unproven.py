"""What a verification says it cannot show: all of that, and nothing that it has shown."""

import pytest

from ext_authz.auditor.findings import ChainSummary
from ext_authz.auditor.unproven import unproven


def chain(unsigned: int) -> ChainSummary:
    return ChainSummary(
        chain="c" * 32,
        files=("audit.jsonl",),
        first=0,
        last=9,
        records=10,
        checkpoints=1,
        signed_to=9 - unsigned,
        unsigned_records=unsigned,
    )


@pytest.mark.parametrize("unsigned", [1, 5])
def test_records_behind_the_last_signature_are_told_of(unsigned: int) -> None:
    (first, *_) = unproven([chain(unsigned)], has_keys=True, has_copies=True)

    assert f"{unsigned} records come after its last signed checkpoint" in first


def test_where_there_are_none_nothing_is_said_of_them() -> None:
    said = unproven([chain(0)], has_keys=True, has_copies=True)

    assert not any("come after its last signed" in sentence for sentence in said)
