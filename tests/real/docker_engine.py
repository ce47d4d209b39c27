"""The Docker engine, by its command."""

import os
import subprocess
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]


def docker(*arguments: str, given: str | None = None) -> str:
    """What `docker` prints, run in the repository with `given` on its standard input."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
