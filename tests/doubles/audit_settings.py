"""The audit's settings as they are without a word in the YAML."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ext_authz.settings.audit_settings import DEFAULTS
from ext_authz.settings.settings import AuditSettings, Checkpoints, Rotation

NEVER: Final = 10.0**9


def audit_settings(file: Path | str, **changes: Any) -> AuditSettings:
    """Those of an audit in `file`, with `changes`."""
    return replace(DEFAULTS, file=str(file), **changes)


def quiet(file: Path | str, **changes: Any) -> AuditSettings:
    """As above, but nothing is rotated or signed unless `changes` say so."""
    checkpoints = Checkpoints(records=10**9, seconds=NEVER, file=None)
    rotation = Rotation(megabytes=NEVER, seconds=NEVER)
    return audit_settings(file, **{"checkpoints": checkpoints, "rotation": rotation, **changes})
