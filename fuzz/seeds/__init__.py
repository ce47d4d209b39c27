"""Seeds that are no text to edit by hand, by target. `python -m fuzz.seeds` writes them into `corpora`."""

from collections.abc import Mapping
from typing import Final

from fuzz.seeds import access_log, audit_file, check_request

WRITTEN: Final[Mapping[str, Mapping[str, bytes]]] = {
    "access_log": access_log.SEEDS,
    "audit_file": audit_file.SEEDS,
    "check_request": {
        name: request.SerializeToString(deterministic=True)
        for name, request in check_request.SEEDS.items()
    },
}
