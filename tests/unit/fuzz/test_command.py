"""`python -m fuzz` on its way to the fuzzer."""

import sys

import pytest

from fuzz import __main__ as command


def test_without_atheris_it_says_so_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "60"])
    monkeypatch.setattr(command, "find_spec", lambda _name: None)

    assert command.main() == 2
    assert capsys.readouterr().err == f"{command.NO_ATHERIS}\n"


def test_an_unknown_target_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "60", "jwks", "jkws"])

    with pytest.raises(SystemExit):
        command.main()
    assert "no such target: jkws" in capsys.readouterr().err
