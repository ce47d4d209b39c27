"""The `audit:` mapping: what each key means, and each fault in it."""

import pytest

from ext_authz.settings.load import load_settings
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import (
    AuditSettings,
    Checkpoints,
    Durability,
    OtlpSink,
    Rotation,
    SubjectForm,
)
from ext_authz.settings.yaml_cursor import SettingsInvalid
from tests.unit.settings.conftest import EVERY_KEY, WriteSettings
from tests.unit.settings.credentials import Credentials

AUDIT = EVERY_KEY[EVERY_KEY.index("audit:\n") : EVERY_KEY.index("shared_cache:\n")]


def audit_of(file: str) -> AuditSettings:
    return load_settings(file).audit


def fault_of(file: str) -> tuple[str, str]:
    """Key and problem of the file's one fault."""
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(file)
    (fault,) = invalid.value.faults
    return fault.key, fault.problem


def test_every_key_is_read(write_settings: WriteSettings, credentials: Credentials) -> None:
    folder = credentials.folder

    assert audit_of(write_settings()) == AuditSettings(
        file="/var/log/mcp-ext-authz/audit.jsonl",
        durability=Durability.SYNCED,
        signing_key=SecretSource(file=f"{folder}/audit.pem"),
        fingerprint_key=SecretSource(file=f"{folder}/fingerprint"),
        subject=SubjectForm.HMAC,
        rotation=Rotation(megabytes=64, seconds=12 * 3600),
        checkpoints=Checkpoints(records=500, seconds=30, file="/mnt/witness/checkpoints.jsonl"),
        outcome_seconds=900,
        stdout=True,
        otlp=OtlpSink(
            endpoint="https://collector.corp.example/v1/logs",
            headers={"authorization": SecretSource(file=f"{folder}/collector")},
        ),
    )


def test_all_but_the_file_may_be_left_out(write_settings: WriteSettings) -> None:
    audit = audit_of(write_settings(AUDIT, "audit: {file: /a.jsonl}\n"))

    assert audit.file == "/a.jsonl"
    assert (audit.durability, audit.subject) == (Durability.WRITTEN, SubjectForm.PLAIN)
    assert (audit.signing_key, audit.fingerprint_key, audit.otlp) == (None, None, None)
    assert audit.rotation == Rotation(megabytes=256, seconds=24 * 3600)
    assert audit.checkpoints == Checkpoints(records=1000, seconds=60, file=None)
    assert (audit.outcome_seconds, audit.stdout) == (3600, False)


def test_a_part_of_a_mapping_may_be_left_out(write_settings: WriteSettings) -> None:
    audit = audit_of(write_settings(AUDIT, "audit: {file: /a.jsonl, rotate: {hours: 1}}\n"))

    assert audit.rotation == Rotation(megabytes=256, seconds=3600)


def test_otlp_needs_no_headers(write_settings: WriteSettings) -> None:
    file = write_settings("    headers:\n      authorization: {file: SECRETS/collector}\n", "")

    assert audit_of(file).otlp == OtlpSink(
        endpoint="https://collector.corp.example/v1/logs", headers={}
    )


NO_CHOICE = "is not one of the choices"
NO_KEY = "is not an unencrypted Ed25519 key in PEM"
ENDPOINT = "https://collector.corp.example/v1/logs"
WRONG = [
    ("durability: synced", "durability: maybe", "durability", NO_CHOICE),
    ("subject: hmac", "subject: hash", "subject", NO_CHOICE),
    ("{file: SECRETS/audit.pem}", "SECRETS/audit.pem", "signing_key", "is not a mapping"),
    ("{file: SECRETS/audit.pem}", "{}", "signing_key", "is not one reference"),
    ("{file: SECRETS/audit.pem}", "{file: SECRETS/hub.pem}", "signing_key", NO_KEY),
    ("{file: SECRETS/audit.pem}", "{file: SECRETS/crm}", "signing_key", NO_KEY),
    (
        "{file: SECRETS/fingerprint}",
        "{file: SECRETS/crm}",
        "fingerprint_key",
        "is shorter than 32 characters",
    ),
    ("  fingerprint_key: {file: SECRETS/fingerprint}\n", "", "subject", "needs a key"),
    ("rotate: {megabytes: 64, hours: 12}", "rotate: 64", "rotate", "is not a mapping"),
    ("megabytes: 64", "megabytes: 0", "rotate.megabytes", "is not a usable number of megabytes"),
    ("megabytes: 64", "megabytes: 64M", "rotate.megabytes", "is not a usable number of megabytes"),
    ("hours: 12", "hours: -1", "rotate.hours", "is not a usable number of hours"),
    ("hours: 12", "days: 12", "rotate.days", "is not a known key"),
    ("records: 500", "records: 0", "checkpoint.records", "is not a usable number of records"),
    ("records: 500", "records: 1.5", "checkpoint.records", "is not a whole number"),
    ("seconds: 30", "seconds: 0", "checkpoint.seconds", "is not a usable number of seconds"),
    ("seconds: 30", "minutes: 1", "checkpoint.minutes", "is not a known key"),
    ("/mnt/witness/checkpoints.jsonl", "[]", "checkpoint.file", "is not a text"),
    ("seconds: 900", "seconds: never", "outcome_seconds", "is not a usable number of seconds"),
    ("stdout: true", "stdout: maybe", "stdout", "is neither true nor false"),
    (
        "https://collector.corp",
        "http://collector.corp",
        "otlp.endpoint",
        "is neither https nor loopback",
    ),
    (ENDPOINT, "collector:4318", "otlp.endpoint", "is not a URL"),
    (f"endpoint: {ENDPOINT}", "", "otlp.endpoint", "is missing"),
    (
        f"endpoint: {ENDPOINT}",
        f"endpoint: {ENDPOINT}\n    url: x",
        "otlp.url",
        "is not a known key",
    ),
    ("authorization: {", "'a b': {", "otlp.headers.a b", "is not a header that may be set"),
    ("authorization: {", "Host: {", "otlp.headers.Host", "is not a header that may be set"),
    ("{file: SECRETS/collector}", "s3cr3t", "otlp.headers.authorization", "is not a mapping"),
    (
        "{file: SECRETS/collector}",
        "{env: NO_SUCH}",
        "otlp.headers.authorization",
        "the environment variable NO_SUCH is not set",
    ),
]


@pytest.mark.parametrize(("old", "new", "key", "problem"), WRONG)
def test_what_is_wrong_is_one_fault_at_its_key(
    write_settings: WriteSettings, old: str, new: str, key: str, problem: str
) -> None:
    assert fault_of(write_settings(old, new)) == (f"audit.{key}", problem)


def test_a_key_that_cannot_be_read_is_a_fault_that_names_its_file(
    write_settings: WriteSettings, credentials: Credentials
) -> None:
    missing = f"{credentials.folder}/missing.pem"

    assert fault_of(write_settings("SECRETS/audit.pem", "SECRETS/missing.pem")) == (
        "audit.signing_key",
        f"cannot read {missing}: No such file or directory",
    )
