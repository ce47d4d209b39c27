"""What workers run on: the settings file as it was when it was read, and found to be right."""

from dataclasses import dataclass

from ext_authz.settings.load import load_document
from ext_authz.settings.settings import Settings
from ext_authz.settings.yaml_cursor import read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`document` is what stood in `file`, and `settings` what it says."""

    file: str
    document: bytes
    settings: Settings


def read_plan(file: str) -> Plan:
    """What stands in `file` now; raises `SettingsInvalid`."""
    document = read_document(file)
    return Plan(file=file, document=document, settings=load_document(document, file))
