"""The settings file: settings that hold together, or faults that each name a line of the file."""

import os
import re
from typing import Final

from ext_authz.outbound import is_loopback
from ext_authz.settings.envoy_yaml import settings_of
from ext_authz.settings.load import read_settings
from ext_authz.settings.settings import Settings
from ext_authz.settings.workers import for_worker
from ext_authz.settings.yaml_cursor import Faults, SettingsInvalid, parse_yaml
from fuzz.targets.url import assert_guarded

LINE_BREAK: Final = re.compile(rb"\r\n|[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9]|\0[\r\n]|[\r\n]\0")

os.environ.setdefault("FUZZ_CREDENTIAL", "made-up")  # the seeds' clients refer to it


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
    assert settings.audit_file.isprintable()
    assert settings.identity_providers
    for issuer in {*settings.identity_providers, *settings.authorization_servers}:
        assert_guarded(issuer)
    for server in settings.servers.values():
        assert_guarded(server.url)
        assert_guarded(server.resource)
        assert server.authorization_server.issuer in settings.authorization_servers
