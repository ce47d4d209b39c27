"""`python -m fuzz.seeds`."""

import sys

from fuzz.seeds import WRITTEN
from fuzz.targets import CORPORA


def main() -> None:
    for target, seeds in WRITTEN.items():
        folder = CORPORA / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, seed in seeds.items():
            (folder / name).write_bytes(seed)
        sys.stdout.write(f"{len(seeds)} seeds in {folder}\n")


if __name__ == "__main__":
    main()
