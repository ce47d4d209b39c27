"""Reads the `shared_cache:` mapping: the Valkey or Redis server through which replicas share tokens."""

from typing import Final

from ext_authz.secret import Secret
from ext_authz.settings.sealing_key import sealing_key
from ext_authz.settings.secret_reference import NO_SOURCE, read_secret, read_source
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import SharedCacheSettings
from ext_authz.settings.valkey_url import ValkeyAddress, valkey_address
from ext_authz.settings.yaml_cursor import Cursor

DEFAULT_SECONDS: Final = 0.05
MAX_SECONDS: Final = 1
_URL: Final = "Give rediss://HOST:6379, redis://127.0.0.1:6379 or unix:///run/valkey.sock."
_KEY: Final = "Make one: openssl rand -hex 32."


def read_shared_cache(root: Cursor) -> SharedCacheSettings | None:
    """The shared cache under `root`, where there is to be one; faults are noted at their keys."""
    member = root.get("shared_cache")
    if member is None or not member.is_mapping():
        return None
    seconds, previous = member.get("seconds"), member.get("previous_key")
    key = member.need("key", f"Refer to it: {{file: /path}}. {_KEY}")
    read = SharedCacheSettings(
        address=_address(member),
        password=_password(member),
        key=_sealing_key(key) if key else NO_SOURCE,
        previous_key=_sealing_key(previous) if previous else None,
        seconds=seconds.seconds(most=MAX_SECONDS) if seconds else DEFAULT_SECONDS,
    )
    member.refuse_unknown()
    return read


def _address(member: Cursor) -> ValkeyAddress:
    url = member.need("url", _URL)
    text = url.text() if url else ""
    if url is None or not text:
        return ValkeyAddress()
    try:
        return valkey_address(text)
    except ValueError as error:
        url.fault(str(error), _URL)
        return ValkeyAddress()


def _password(member: Cursor) -> SecretSource | None:
    reference = member.get("password")
    if reference is None:
        return None
    source = read_source(reference)
    read_secret(reference, source)
    return source


def _sealing_key(reference: Cursor) -> SecretSource:
    source = read_source(reference)
    key = read_secret(reference, source)
    if key is not None and not _is_usable(key):
        reference.fault("is not 32 random bytes in hex or base64", _KEY)
    return source


def _is_usable(key: Secret) -> bool:
    try:
        sealing_key(key)
    except ValueError:
        return False
    return True
