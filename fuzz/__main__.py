"""`python -m fuzz SECONDS [TARGET …]`: each target for its share of the time, then a table.

Exits with 1 where something was found; the inputs are then in `fuzz/findings`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fuzz.targets import CORPORA, NAMES

HERE: Final = Path(__file__).parent
FINDINGS: Final = HERE / "findings"
LIMITS: Final = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=4096")
STARTING_SECONDS: Final = 60
NO_ATHERIS: Final = (
    "python -m fuzz: atheris is not installed; its wheels are for Linux on x86-64 and CPython 3.11"
    " to 3.14."
)
_PROGRESS: Final = re.compile(r"^#(\d+)\s.*?cov: (\d+)", re.MULTILINE)
_NO_NEWS: Final = re.compile(r"^(INFO|WARNING|#\d).*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunt:
    """What came of fuzzing one target. `log` is worth reading only where something was found."""

    target: str
    executions: int
    coverage: int
    findings: Sequence[Path]
    is_clean: bool
    log: str

    def __str__(self) -> str:
        found = len(self.findings) or ("none" if self.is_clean else "broke")
        return f"{self.target:<16}{self.executions:>12,}{self.coverage:>10,}{found:>10}"


def main() -> int:
    arguments = _arguments()
    if find_spec("atheris") is None:
        print(NO_ATHERIS, file=sys.stderr)
        return 2
    print(f"{'target':<16}{'executions':>12}{'coverage':>10}{'findings':>10}")
    share = max(1, arguments.seconds // len(arguments.targets))
    hunts = [_told(hunt(target, share)) for target in arguments.targets]
    return 0 if all(each.is_clean for each in hunts) else 1


def hunt(target: str, seconds: int) -> Hunt:
    """Fuzzes one target, in a process of its own."""
    FINDINGS.mkdir(exist_ok=True)
    before = _artifacts(target)
    with tempfile.TemporaryDirectory() as fresh:
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.hunt", target, *_options(target, seconds, fresh)],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + STARTING_SECONDS,
            check=False,
        )
    log = done.stdout.decode(errors="replace")
    executions, coverage = (_PROGRESS.findall(log) or [(0, 0)])[-1]
    return Hunt(
        target=target,
        executions=int(executions),
        coverage=int(coverage),
        findings=sorted(_artifacts(target) - before),
        is_clean=done.returncode == 0,
        log=_NO_NEWS.sub("", log),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzzes what reads input.")
    parser.add_argument("seconds", type=int, help="for all targets together")
    parser.add_argument("targets", nargs="*", help=f"of: {', '.join(NAMES)} (default: all)")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    arguments.targets = arguments.targets or NAMES
    return arguments


def _options(target: str, seconds: int, fresh: str) -> list[str]:
    """New units go to the first folder; the committed seeds are only read."""
    prefix = f"-artifact_prefix={FINDINGS / target}-"
    dictionary = f"-dict={HERE / 'dictionaries' / target}"
    return [f"-max_total_time={seconds}", *LIMITS, prefix, dictionary, fresh, str(CORPORA / target)]


def _artifacts(target: str) -> set[Path]:
    return set(FINDINGS.glob(f"{target}-*"))


def _told(done: Hunt) -> Hunt:
    print(done, flush=True)
    if not done.is_clean:
        print(done.log, *done.findings, sep="\n", file=sys.stderr)
    return done


if __name__ == "__main__":
    sys.exit(main())
