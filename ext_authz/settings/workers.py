"""Several worker processes: how many, and what each of them must have for itself.

`{worker}` in an address or a file name stands for a worker's number, from 1. So the settings say exactly
which addresses Envoy's clusters must list, and which files there will be.
"""

from dataclasses import replace
from typing import Final

from ext_authz.settings.settings import Settings
from ext_authz.settings.yaml_cursor import Cursor

PLACE: Final = "{worker}"
MOST_WORKERS: Final = 64
_FIX: Final = f"Write `{PLACE}` where each worker's number goes: "
_OWN: Final = {
    ("listen",): ("has one address for all workers", "unix:/run/mcp-ext-authz/check-{worker}.sock"),
    ("audit", "file"): (
        "is one file for all workers",
        "/var/log/mcp-ext-authz/audit-{worker}.jsonl",
    ),
    ("audit", "checkpoint", "file"): ("is one file for all workers", "checkpoints-{worker}.jsonl"),
}


def read_workers(root: Cursor) -> int:
    """How many workers there are to be: 1 where nothing is said."""
    member = root.get("workers")
    if member is None:
        return 1
    number = member.number("workers", most=MOST_WORKERS)
    if number % 1:
        member.fault("is not a whole number", "Write it without a fraction.")
    return max(1, int(number))


def refuse_shared(root: Cursor, workers: int) -> None:
    """Notes a fault for each thing under `root` that several workers cannot have in common."""
    if workers == 1:
        return
    for path, (problem, example) in _OWN.items():
        member = _member(root, path)
        if member is not None and PLACE not in member.text():
            member.fault(problem, f"{_FIX}{example}.")
    stdout = _member(root, ("audit", "stdout"))
    if stdout is not None and stdout.flag():
        fix = "Read each worker's file, use `otlp`, or leave `workers` at 1."
        stdout.fault("would mix the lines of several workers", fix)


def of_worker(text: str, number: int) -> str:
    """`text` as it is for the worker `number`."""
    return text.replace(PLACE, str(number))


def for_worker(settings: Settings, number: int) -> Settings:
    """The settings that the worker `number` runs on."""
    audit = settings.audit
    copies = audit.checkpoints.file
    checkpoints = replace(audit.checkpoints, file=copies and of_worker(copies, number))
    audit = replace(audit, file=of_worker(audit.file, number), checkpoints=checkpoints)
    return replace(settings, listen=of_worker(settings.listen, number), audit=audit)


def _member(root: Cursor, path: tuple[str, ...]) -> Cursor | None:
    cursor: Cursor | None = root
    for name in path:
        cursor = cursor.get(name) if cursor else None
    return cursor
