"""Where the settings stand in a file.

Under `node.metadata.mcp_ext_authz` of an Envoy bootstrap; or, where a control plane makes Envoy's
configuration, as a file of their own.
"""

from typing import Final

from ext_authz.settings.yaml_cursor import Cursor, SettingsInvalid

SETTINGS_KEY: Final = "mcp_ext_authz"
_BOOTSTRAP_KEYS: Final = {"node", "static_resources", "dynamic_resources", "admin", "bootstrap"}


def settings_of(root: Cursor) -> Cursor:
    """The settings' position in the file under `root`; raises `SettingsInvalid`."""
    if not _BOOTSTRAP_KEYS & set(root.names()):
        return root
    cursor = root
    for name in ("node", "metadata", SETTINGS_KEY):
        member = cursor.need(name, f"Put the settings under node.metadata.{SETTINGS_KEY}.")
        if member is None or not member.is_mapping():
            raise SettingsInvalid(root.faults.found)
        cursor = member
    return cursor
