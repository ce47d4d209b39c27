"""`workers`, and what each of them must have for itself."""

import pytest

from ext_authz.settings.load import load_settings
from ext_authz.settings.workers import MOST_WORKERS, for_worker
from ext_authz.settings.yaml_cursor import SettingsInvalid
from tests.unit.settings.conftest import EVERY_KEY, WriteSettings

SOCKET = "unix:/run/mcp-ext-authz/check.sock"
SEVERAL = (
    EVERY_KEY.replace("check.sock", "check-{worker}.sock")
    .replace("audit.jsonl", "audit-{worker}.jsonl")
    .replace("/mnt/witness/checkpoints.jsonl", "'/mnt/{worker}/checkpoints.jsonl'")
    .replace("  stdout: true\n", "")
    .replace("identity_providers:", "workers: 3\nidentity_providers:")
)


def faults_of(file: str) -> list[tuple[str, str]]:
    """Key and problem of every fault in the file; each says how to mend it."""
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(file)
    assert all(fault.fix.endswith(".") for fault in invalid.value.faults)
    return [(fault.key, fault.problem) for fault in invalid.value.faults]


def test_there_is_one_where_nothing_is_said(write_settings: WriteSettings) -> None:
    settings = load_settings(write_settings())

    assert settings.workers == 1
    assert for_worker(settings, 1) == settings


def test_each_has_an_address_and_files_of_its_own(write_settings: WriteSettings) -> None:
    settings = load_settings(write_settings(text=SEVERAL))
    third = for_worker(settings, 3)

    assert settings.workers == 3
    assert third.listen == "unix:/run/mcp-ext-authz/check-3.sock"
    assert third.audit.file == "/var/log/mcp-ext-authz/audit-3.jsonl"
    assert third.audit.checkpoints.file == "/mnt/3/checkpoints.jsonl"


def test_a_single_one_is_the_first_of_its_kind(write_settings: WriteSettings) -> None:
    only = for_worker(load_settings(write_settings("workers: 3", "workers: 1", text=SEVERAL)), 1)

    assert only.listen == "unix:/run/mcp-ext-authz/check-1.sock"
    assert only.audit.file == "/var/log/mcp-ext-authz/audit-1.jsonl"


def test_copies_of_checkpoints_are_not_made_where_none_were_asked_for(
    write_settings: WriteSettings,
) -> None:
    text = SEVERAL.replace(", file: '/mnt/{worker}/checkpoints.jsonl'", "")

    assert for_worker(load_settings(write_settings(text=text)), 2).audit.checkpoints.file is None


@pytest.mark.parametrize(
    ("listen", "second"),
    [
        ("127.0.0.1:919{worker}", "127.0.0.1:9192"),
        ("127.0.0.{worker}:9191", "127.0.0.2:9191"),
        ("'[::1]:919{worker}'", "[::1]:9192"),
    ],
)
def test_ports_and_loopback_addresses_take_numbers_too(
    write_settings: WriteSettings, listen: str, second: str
) -> None:
    file = write_settings("unix:/run/mcp-ext-authz/check-{worker}.sock", listen, text=SEVERAL)

    assert for_worker(load_settings(file), 2).listen == second


@pytest.mark.parametrize(
    ("shared", "own", "key", "problem"),
    [
        ("check-{worker}", "check", "listen", "has one address for all workers"),
        ("audit-{worker}", "audit", "audit.file", "is one file for all workers"),
        ("'/mnt/{worker}/", "'/mnt/", "audit.checkpoint.file", "is one file for all workers"),
        (
            "  subject: hmac",
            "  stdout: true\n  subject: hmac",
            "audit.stdout",
            "would mix the lines of several workers",
        ),
    ],
)
def test_what_they_cannot_share_is_a_fault(
    write_settings: WriteSettings, shared: str, own: str, key: str, problem: str
) -> None:
    assert faults_of(write_settings(shared, own, text=SEVERAL)) == [(key, problem)]


def test_no_copy_on_standard_output_is_none_that_mixes(write_settings: WriteSettings) -> None:
    file = write_settings("  subject: hmac", "  stdout: false\n  subject: hmac", text=SEVERAL)

    assert load_settings(file).workers == 3


@pytest.mark.parametrize("number", ["0", "-1", "two", f"{MOST_WORKERS + 1}", "2.5", "[2]"])
def test_a_number_that_is_none_is_a_fault(write_settings: WriteSettings, number: str) -> None:
    file = write_settings("workers: 3", f"workers: {number}", text=SEVERAL)

    assert {key for key, _ in faults_of(file)} == {"workers"}


def test_the_address_of_every_worker_must_be_one(write_settings: WriteSettings) -> None:
    text = SEVERAL.replace("workers: 3", "workers: 11")
    socket = "unix:/run/mcp-ext-authz/check-{worker}.sock"
    file = write_settings(socket, "127.0.0.1:919{worker}", text=text)

    assert faults_of(file) == [("listen", "is no address")]


def test_without_a_number_there_is_nobody_to_share_with(write_settings: WriteSettings) -> None:
    file = write_settings("identity_providers:", "workers: null\nidentity_providers:")

    assert load_settings(file).listen == SOCKET
