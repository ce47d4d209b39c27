"""The auditor's side: what was written is verified, and the program's `audit` commands are run."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ext_authz.auditor.files import find_sources
from ext_authz.auditor.findings import Report
from ext_authz.auditor.verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command ended with, and what it printed."""

    status: int
    out: str
    err: str


def verified(*files: Path, **parts: Any) -> Report:
    return verify(find_sources([str(file) for file in files]), workers=1, **parts)


def audit(command: str, *arguments: Path | str, stdin: str = "") -> Said:
    """`mcp-ext-authz audit COMMAND …`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ext_authz", "audit", command, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return Said(status=done.returncode, out=done.stdout, err=done.stderr)
