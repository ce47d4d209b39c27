"""Files to read from, which must be the audit's."""

import contextlib
from collections.abc import Iterator
from typing import Final

from ext_authz.audit.chain import NotLinked, unlink
from ext_authz.auditor.files import BadInput, Data, Source, opened

_LOOKED_AT: Final = 256 * 1024  # bytes at each end: a record may be torn, or somebody's


@contextlib.contextmanager
def opened_log(source: Source) -> Iterator[Data]:
    """As `opened`; raises `BadInput` also where neither beginning nor end hold a record."""
    with opened(source) as data:
        if len(data) and not _has_record(data[:_LOOKED_AT]) and not _has_record(data[-_LOOKED_AT:]):
            raise BadInput(
                f"{source.name}: holds no audit record. Name files of `audit.file` only."
            )
        yield data


def _has_record(block: bytes) -> bool:
    for line in block.split(b"\n"):
        with contextlib.suppress(NotLinked):
            unlink(line)
            return True
    return False
