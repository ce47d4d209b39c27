"""The table leaves no id out."""

import re
from pathlib import Path

from tests.abuse.table import IDS, NOT_BUILT, id_of


def test_every_id_of_the_threat_list_has_a_test_or_is_not_built() -> None:
    texts = [file.read_text() for file in Path(__file__).parent.glob("test_*.py")]
    names = re.findall(r"(?m)^(?:async )?def (test_\w+)", "\n".join(texts))

    assert {id_of(name) for name in names} - {None} == set(IDS) - NOT_BUILT.keys()


def test_an_id_is_read_from_the_beginning_of_a_name() -> None:
    assert id_of("test_b10_a_header[x::y]") == "B10"
    assert id_of("test_a_name") is None
