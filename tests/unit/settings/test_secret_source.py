"""Where a credential comes from, and when it is not taken."""

from pathlib import Path

import pytest

from ext_authz.settings.secret_source import SecretSource, SecretUnreadable
from tests.unit.settings.credentials import Credentials

CANARY = "canary-7f3a"


@pytest.fixture
def folder(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


def fault_of(source: SecretSource) -> str:
    with pytest.raises(SecretUnreadable) as fault:
        source.read()
    assert CANARY not in str(fault.value)
    return str(fault.value)


def test_a_file_is_read_without_the_line_break_at_its_end(folder: Credentials) -> None:
    file = folder.write("secret", f" {CANARY}ü\r\n")

    assert SecretSource(file=str(file)).read().reveal() == f"{CANARY}ü"


def test_a_variable_is_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_SECRET", f"{CANARY}\n")

    assert SecretSource(env="CRM_SECRET").read().reveal() == CANARY


def test_a_changed_file_is_seen(folder: Credentials) -> None:
    source = SecretSource(file=str(folder.write("secret", "old")))
    source.read()
    folder.write("secret", "new")

    assert source.read().reveal() == "new"


def test_a_link_counts_as_what_it_leads_to(folder: Credentials) -> None:
    link = folder.folder / "link"
    link.symlink_to(folder.write("secret", CANARY))

    assert SecretSource(file=str(link)).read().reveal() == CANARY


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640, 0o500])
def test_a_file_for_its_owner_and_group_is_read(folder: Credentials, mode: int) -> None:
    file = folder.write("secret", CANARY, mode=mode)

    assert SecretSource(file=str(file)).read().reveal() == CANARY


@pytest.mark.parametrize("mode", [0o404, 0o402, 0o401, 0o420, 0o644, 0o660, 0o666, 0o777])
def test_a_file_that_others_can_read_or_change_is_refused(folder: Credentials, mode: int) -> None:
    file = folder.write("secret", CANARY, mode=mode)

    assert fault_of(SecretSource(file=str(file))) == (
        f"{file} is open to others (mode {mode:04o}); run chmod 0400 {file}"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "secret"

    assert (
        fault_of(SecretSource(file=str(file))) == f"cannot read {file}: No such file or directory"
    )


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    assert fault_of(SecretSource(file=str(tmp_path))).endswith(": Is a directory")


def test_a_file_that_is_not_utf_8_is_refused(folder: Credentials) -> None:
    file = folder.write("secret", CANARY.encode() + b"\xff")

    assert fault_of(SecretSource(file=str(file))) == "it is not UTF-8"


def test_a_variable_that_is_not_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_SECRET", f"{CANARY}\udcff")

    assert fault_of(SecretSource(env="CRM_SECRET")) == "it is not UTF-8"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_SECRET", raising=False)

    assert fault_of(SecretSource(env="CRM_SECRET")) == (
        "the environment variable CRM_SECRET is not set"
    )


@pytest.mark.parametrize("text", ["", "\n", " \t\r\n"])
def test_an_empty_credential_is_refused(
    folder: Credentials, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CRM_SECRET", text)

    assert fault_of(SecretSource(env="CRM_SECRET")) == "it is empty"
    assert fault_of(SecretSource(file=str(folder.write("secret", text)))) == "it is empty"
