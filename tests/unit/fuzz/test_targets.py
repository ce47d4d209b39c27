"""The fuzz targets without the fuzzer: every committed seed, and what Hypothesis makes up."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.seeds import WRITTEN
from fuzz.targets import CORPORA, NAMES, one_input_of, seeds_of

EVERY_SEED = [(target, seed) for target in NAMES for seed in seeds_of(target)]
MAX_CORPORA_BYTES = 300_000


@pytest.mark.parametrize(
    ("target", "seed"), EVERY_SEED, ids=[f"{target}-{seed.name}" for target, seed in EVERY_SEED]
)
@pytest.mark.timeout(5)
def test_what_is_asserted_of_a_target_holds_for_each_of_its_seeds(target: str, seed: Path) -> None:
    one_input_of(target)(seed.read_bytes())


@pytest.mark.parametrize("target", NAMES)
@given(data=st.binary())
def test_what_is_asserted_of_a_target_holds_for_any_bytes(target: str, data: bytes) -> None:
    one_input_of(target)(data)


def test_every_target_has_seeds_and_all_of_them_are_small() -> None:
    assert all(len(seeds_of(target)) >= 10 for target in NAMES)
    assert {folder.name for folder in CORPORA.iterdir()} == set(NAMES)
    assert sum(seed.stat().st_size for _, seed in EVERY_SEED) < MAX_CORPORA_BYTES


@pytest.mark.parametrize("target", WRITTEN)
def test_the_seeds_that_a_script_writes_are_the_committed_ones(target: str) -> None:
    for name, seed in WRITTEN[target].items():
        assert (CORPORA / target / name).read_bytes() == seed, name
