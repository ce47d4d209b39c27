"""`python -m fuzz.hunt TARGET [libFuzzer option or folder …]`: one target under atheris."""

import sys
from random import Random
from typing import Final

import atheris

from fuzz.bend import bent
from fuzz.targets import one_input_of

# and not yaml: its insides are no news to us, and the reader runs at a fifth of the speed with it
INSTRUMENTED: Final = ["ext_authz", "httpx2", "jwt"]


def main() -> None:
    program, target, *options = sys.argv
    with atheris.instrument_imports(include=INSTRUMENTED):
        one_input = one_input_of(target)
    mutator = {"custom_mutator": _bent_request} if target == "check_request" else {}
    atheris.Setup([program, *options], one_input, **mutator)
    atheris.Fuzz()


def _bent_request(data: bytes, max_size: int, seed: int) -> bytes:
    return bent(data, lambda text: atheris.Mutate(text, len(text) + 64), Random(seed))[:max_size]


if __name__ == "__main__":
    main()
