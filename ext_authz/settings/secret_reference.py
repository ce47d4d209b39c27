"""Reads a reference to a credential: `{env: NAME}` or `{file: /path}`."""

from ext_authz.secret import Secret
from ext_authz.settings.secret_source import SecretSource, SecretUnreadable
from ext_authz.settings.yaml_cursor import Cursor

NO_SOURCE = SecretSource()


def read_source(reference: Cursor) -> SecretSource:
    """The reference under the cursor; faults are noted, and `NO_SOURCE` takes its place."""
    if not reference.is_mapping():
        return NO_SOURCE
    env, file = _text(reference, "env"), _text(reference, "file")
    reference.refuse_unknown()
    if (env is None) == (file is None):
        reference.fault("is not one reference", "Give either `env` or `file`.")
        return NO_SOURCE
    return SecretSource(env=env, file=file)


def read_secret(reference: Cursor, source: SecretSource) -> Secret | None:
    """The credential, read once so that a missing one stops the start and not the first user."""
    if not (source.env or source.file):
        return None
    try:
        return source.read()
    except SecretUnreadable as error:
        reference.fault(str(error), "Provide it before starting.")
        return None


def _text(member: Cursor, name: str) -> str | None:
    value = member.get(name)
    return value.text() if value else None
