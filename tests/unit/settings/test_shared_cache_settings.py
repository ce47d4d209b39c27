"""The `shared_cache:` mapping: what each key means, and each fault in it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.secret import Secret
from ext_authz.settings.load import load_settings
from ext_authz.settings.sealing_key import sealing_key
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import SharedCacheSettings
from ext_authz.settings.valkey_url import ValkeyAddress, valkey_address
from ext_authz.settings.yaml_cursor import SettingsInvalid
from tests.unit.settings.conftest import EVERY_KEY, WriteSettings
from tests.unit.settings.credentials import Credentials

SHARED = EVERY_KEY[EVERY_KEY.index("shared_cache:\n") : EVERY_KEY.index("timeouts:\n")]
URL = "rediss://valkey.corp.example:6380/2"
KEY = bytes(range(100, 132))


def test_every_key_is_read(write_settings: WriteSettings, credentials: Credentials) -> None:
    folder = credentials.folder

    assert load_settings(write_settings()).shared_cache == SharedCacheSettings(
        address=ValkeyAddress(host="valkey.corp.example", port=6380, database=2, tls=True),
        password=SecretSource(file=f"{folder}/valkey"),
        key=SecretSource(file=f"{folder}/sealing"),
        previous_key=SecretSource(file=f"{folder}/sealing.old"),
        seconds=0.1,
    )


def test_without_it_nothing_is_shared(write_settings: WriteSettings) -> None:
    assert load_settings(write_settings(SHARED, "")).shared_cache is None


def test_all_but_url_and_key_may_be_left_out(write_settings: WriteSettings) -> None:
    file = write_settings(
        SHARED, "shared_cache: {url: 'redis://localhost', key: {file: SECRETS/sealing}}\n"
    )
    shared = load_settings(file).shared_cache

    assert shared is not None
    assert shared.address == ValkeyAddress(host="localhost")
    assert (shared.password, shared.previous_key, shared.seconds) == (None, None, 0.05)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1:6379", ValkeyAddress(host="127.0.0.1")),
        ("redis://[::1]/", ValkeyAddress(host="::1")),
        ("redis://127.0.0.1:7000/15", ValkeyAddress(host="127.0.0.1", port=7000, database=15)),
        ("rediss://valkey", ValkeyAddress(host="valkey", tls=True)),
        ("unix:///run/valkey.sock", ValkeyAddress(path="/run/valkey.sock")),
    ],
)
def test_urls(url: str, address: ValkeyAddress) -> None:
    assert valkey_address(url) == address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://valkey.corp.example:6379", "is neither TLS nor loopback"),
        ("redis://10.0.0.1", "is neither TLS nor loopback"),
        ("rediss://user:password@valkey", "is not a plain URL"),
        ("rediss://169.254.169.254", "is a link-local address"),
        ("rediss://valkey:port", "is not a URL"),
        ("rediss://", "is not a URL"),
        ("rediss://valkey/zero", "names no database by its number"),
        ("rediss://valkey/0?ssl_cert_reqs=none", "names no database by its number"),
        ("https://valkey", "is neither rediss, redis nor unix"),
        ("valkey:6379", "is neither rediss, redis nor unix"),
        ("unix://valkey.sock", "is not an absolute path"),
    ],
)
def test_what_is_no_safe_place_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        valkey_address(url)

    assert str(refused.value) == problem


@pytest.mark.parametrize(
    "text",
    [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode()],
    ids=["hex", "HEX", "base64"],
)
def test_keys_are_hex_or_base64(text: str) -> None:
    assert sealing_key(Secret(text)) == KEY


@given(key=st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) > 20))
def test_every_random_key_is_read_in_either_way(key: bytes) -> None:
    assert sealing_key(Secret(key.hex())) == sealing_key(Secret(base64.b64encode(key).decode()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3cr3t",
        KEY.hex()[:-2],
        "00" * 32,
        "ab" * 32,
        base64.b64encode(KEY[:31]).decode(),
        "ä" * 44,
    ],
)
def test_what_is_no_random_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not 32 random bytes$"):
        sealing_key(Secret(text))


NO_KEY = "is not 32 random bytes in hex or base64"
WRONG = [
    (URL, "redis://valkey.corp.example", "url", "is neither TLS nor loopback"),
    (URL, "[]", "url", "is not a text"),
    (f"url: {URL}", "", "url", "is missing"),
    ("  key: {file: SECRETS/sealing}\n", "", "key", "is missing"),
    ("{file: SECRETS/sealing}", "SECRETS/sealing", "key", "is not a mapping"),
    ("{file: SECRETS/sealing}", "{file: SECRETS/crm}", "key", NO_KEY),
    ("{file: SECRETS/sealing.old}", "{file: SECRETS/crm}", "previous_key", NO_KEY),
    ("{file: SECRETS/valkey}", "s3cr3t", "password", "is not a mapping"),
    (
        "{file: SECRETS/valkey}",
        "{env: NO_SUCH}",
        "password",
        "the environment variable NO_SUCH is not set",
    ),
    ("seconds: 0.1", "seconds: 2", "seconds", "is not a usable number of seconds"),
    ("seconds: 0.1", "timeout: 1", "timeout", "is not a known key"),
]


@pytest.mark.parametrize(("old", "new", "key", "problem"), WRONG)
def test_what_is_wrong_is_one_fault_at_its_key(
    write_settings: WriteSettings, old: str, new: str, key: str, problem: str
) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(write_settings(old, new))

    (fault,) = invalid.value.faults
    assert (fault.key, fault.problem) == (f"shared_cache.{key}", problem)


def test_it_is_a_mapping(write_settings: WriteSettings) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(write_settings(SHARED, "shared_cache: rediss://valkey\n"))

    assert [fault.key for fault in invalid.value.faults] == ["shared_cache"]
