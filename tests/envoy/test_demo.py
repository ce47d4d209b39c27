"""The demo command, as a person runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.audit_records import records_in

COMMAND = (sys.executable, "-m", "ext_authz", "demo")
SECONDS = 60


@pytest.fixture(scope="module")
def a_finished_demo() -> Iterator[subprocess.CompletedProcess[str]]:
    # not pytest's own directory: its path may be longer than a socket's can be
    with tempfile.TemporaryDirectory() as folder:
        yield subprocess.run(
            [*COMMAND, "--json"],
            env=os.environ | {"TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def a_demo_that_stays_up() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running demo, and what it printed up to its last line."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*COMMAND, "--keep"],
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
            text=True,
        ) as demo,
    ):
        assert demo.stdout is not None
        printed = ""
        for line in demo.stdout:
            printed += line
            if line.startswith("mcp-ext-authz audit show"):
                break
        yield demo, printed
        if demo.poll() is None:
            demo.terminate()


def test_the_demo_keeps_every_promise(
    a_finished_demo: subprocess.CompletedProcess[str],
) -> None:
    assert a_finished_demo.returncode == 0, a_finished_demo.stdout + a_finished_demo.stderr
    assert "FAIL" not in a_finished_demo.stdout
    assert re.search(r"All \d+ promises held\.", a_finished_demo.stdout)


def test_its_last_line_is_the_figures_and_they_agree(
    a_finished_demo: subprocess.CompletedProcess[str],
) -> None:
    figures = json.loads(a_finished_demo.stdout.splitlines()[-1])
    verdicts = [record["verdict"] for record in records_in(Path(figures["audit_file"]))]

    assert figures["calls"] == figures["audit_records"] == len(verdicts)
    assert figures["allowed"] == verdicts.count("allow") > 0
    assert figures["denied"] == verdicts.count("deny") > 0
    assert figures["user_tokens_seen_upstream"] == 0
    assert figures["leg1"] == figures["leg2"] == 4


def test_it_leaves_the_audit_and_no_secret_behind(
    a_finished_demo: subprocess.CompletedProcess[str],
) -> None:
    figures = json.loads(a_finished_demo.stdout.splitlines()[-1])
    folder = Path(figures["audit_file"]).parent
    left = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())

    assert not (folder / "secrets").exists()
    assert b"PRIVATE KEY" not in left
    assert b"eyJ" not in left  # with which every JWT begins


def test_the_lines_it_prints_to_try_by_hand_work_as_they_are(
    a_demo_that_stays_up: tuple[subprocess.Popen[str], str],
) -> None:
    _, printed = a_demo_that_stays_up
    script = printed[printed.index("ALICE=") : printed.index("mcp-ext-authz audit show")]

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = subprocess.run(
        ["bash", "-eu", "-c", script],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout

    assert "HTTP/1.1 200" in shown
    assert "00u-alice" in shown
    assert '"authorization_servers"' in shown
    assert "INTACT" in shown
    assert "access tokens from" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_what_it_started_when_interrupted(
    a_demo_that_stays_up: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    demo, _ = a_demo_that_stays_up
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()

    demo.send_signal(number)
    rest, _ = demo.communicate(timeout=SECONDS)

    assert demo.returncode == 0
    assert "promises held" in rest
    assert len(children) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in children)
