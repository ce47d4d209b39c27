"""The settings file: settings that hold together, or faults that each name a line of the file."""

import math
import os
import re
from typing import Final

from ext_authz.audit.checkpoint import Signer
from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.outbound import is_loopback
from ext_authz.settings.envoy_yaml import settings_of
from ext_authz.settings.load import read_settings
from ext_authz.settings.settings import AuditSettings, Settings, SubjectForm
from ext_authz.settings.workers import for_worker
from ext_authz.settings.yaml_cursor import Faults, SettingsInvalid, parse_yaml
from fuzz.targets.url import assert_guarded
from tests.unit.auditor.chains import PEM

LINE_BREAK: Final = re.compile(rb"\r\n|[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9]|\0[\r\n]|[\r\n]\0")

# the seeds refer to them
os.environ.setdefault("FUZZ_CREDENTIAL", "made-up")
os.environ.setdefault("FUZZ_SIGNING_KEY", PEM)
os.environ.setdefault("FUZZ_FINGERPRINT_KEY", "made-up-" * 4)


def one_input(data: bytes) -> None:
    try:
        settings = read_settings(settings_of(parse_yaml(data, Faults("fuzz.yaml"))))
    except SettingsInvalid as invalid:
        _assert_placed(invalid, lines=len(LINE_BREAK.findall(data)) + 1)
    else:
        for number in range(1, settings.workers + 1):
            _assert_sound(for_worker(settings, number))


def _assert_placed(invalid: SettingsInvalid, lines: int) -> None:
    assert invalid.faults
    for fault in invalid.faults:
        assert 1 <= fault.line <= lines
        assert str(fault).isprintable()


def _assert_sound(settings: Settings) -> None:
    assert settings.listen.startswith("unix:/") or is_loopback(
        settings.listen.rpartition(":")[0].strip("[]")
    )
    assert settings.listen.isprintable()
    _assert_sound_audit(settings.audit)
    assert settings.identity_providers
    for issuer in {*settings.identity_providers, *settings.authorization_servers}:
        assert_guarded(issuer)
    for server in settings.servers.values():
        assert_guarded(server.url)
        assert_guarded(server.resource)
        assert server.authorization_server.issuer in settings.authorization_servers


def _assert_sound_audit(audit: AuditSettings) -> None:
    """Each number keeps the log going, and each key is one that it can work with."""
    assert audit.file.isprintable()
    assert (audit.checkpoints.file or "").isprintable()
    assert audit.checkpoints.records >= 1
    for limit in (audit.rotation.megabytes, audit.rotation.seconds, audit.checkpoints.seconds):
        assert 0 < limit < math.inf
    assert 0 < audit.outcome_seconds < math.inf
    if audit.signing_key is not None:
        Signer(audit.signing_key.read().reveal())
    if audit.fingerprint_key is not None:
        Fingerprints(audit.fingerprint_key.read().reveal())
    assert audit.fingerprint_key is not None or audit.subject is SubjectForm.PLAIN
    if audit.otlp is not None:
        assert_guarded(audit.otlp.endpoint)
        assert all(name.isprintable() for name in audit.otlp.headers)
