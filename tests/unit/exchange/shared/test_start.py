"""What has to be there for replicas to share, and what need not be."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
import structlog

from ext_authz.cannot_serve import CannotServe
from ext_authz.clock import Clock
from ext_authz.exchange.shared.start import SharedCacheUnusable, shared_among_replicas
from ext_authz.server import running
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import Settings, SharedCacheSettings, Timeouts
from ext_authz.settings.valkey_url import ValkeyAddress
from tests.doubles.audit_settings import quiet
from tests.doubles.valkey import Valkey
from tests.unit.exchange.shared.conftest import CURRENT, OTHER

REPOSITORY = Path(__file__).parents[4]
NOT_ASKED_FOR = """
import sys
import ext_authz.server
print("ext_authz.exchange.shared.valkey_server" in sys.modules)
"""
MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> MakeSettings:
    """Those of a service that serves nothing, with what is shared at `address`."""

    def make(address: ValkeyAddress | None, **changes: SecretSource) -> Settings:
        for name, key in (("key", CURRENT), ("old", OTHER)):
            (tmp_path / name).write_text(key.hex())
            (tmp_path / name).chmod(0o600)
        keys = {name: SecretSource(file=str(tmp_path / name)) for name in ("key", "old")}
        shared = (
            None
            if address is None
            else SharedCacheSettings(
                address=address,
                password=None,
                key=changes.get("key", keys["key"]),
                previous_key=keys["old"],
                seconds=1,
            )
        )
        return Settings(
            listen=f"unix:{tmp_path}/check.sock",
            identity_providers=MappingProxyType({}),
            authorization_servers=MappingProxyType({}),
            servers=MappingProxyType({}),
            audit=quiet(tmp_path / "audit.jsonl"),
            timeouts=Timeouts(check=5, exchange=4, call=3),
            shared_cache=shared,
        )

    return make


async def test_without_the_setting_nothing_is_shared(settings: MakeSettings) -> None:
    async with shared_among_replicas(settings(None), Clock()) as shared:
        assert shared is None


async def test_a_server_that_is_there_is_used(settings: MakeSettings, valkey: Valkey) -> None:
    with structlog.testing.capture_logs() as log:
        async with shared_among_replicas(settings(valkey.address), Clock()) as shared:
            assert shared is not None
            await shared.drop("key")
            clients = await valkey.client.client_list()
            assert [each["cmd"] for each in clients].count("eval") == 1

    assert log == []


async def test_a_server_that_is_not_there_is_said_and_no_reason_not_to_start(
    settings: MakeSettings, tmp_path: Path
) -> None:
    nowhere = ValkeyAddress(path=str(tmp_path / "none.sock"))
    with structlog.testing.capture_logs() as log:
        async with running(settings(nowhere)):
            pass

    assert [line["event"] for line in log] == ["shared_cache_lost", "serving", "stopped"]


async def test_without_the_extra_the_fix_is_told(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "redis" or name.endswith(("backends.redis", ".valkey_server")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(CannotServe) as cannot:
        async with running(settings(ValkeyAddress(path="/nowhere"))):
            pass
    assert str(cannot.value) == (
        "`shared_cache` needs a package that is missing: pip install 'mcp-ext-authz[valkey]'."
    )


async def test_a_broken_installation_of_ours_is_no_missing_extra(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ext_authz.exchange.shared.valkey_server", None)

    with pytest.raises(ModuleNotFoundError):
        async with shared_among_replicas(settings(ValkeyAddress(path="/nowhere")), Clock()):
            pass


@pytest.mark.parametrize(
    ("text", "problem"), [("s3cr3t", "not 32 random bytes"), ("", "it is empty")]
)
async def test_a_key_that_has_become_unusable_since_is_said(
    settings: MakeSettings, tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "unusable"
    file.write_text(text)
    file.chmod(0o400)
    made = settings(ValkeyAddress(path="/nowhere"), key=SecretSource(file=str(file)))

    with pytest.raises(SharedCacheUnusable) as unusable:
        async with shared_among_replicas(made, Clock()):
            pass
    assert str(unusable.value) == f"A key of `shared_cache` cannot be used: {problem}"


def test_who_does_not_ask_for_it_does_not_load_it() -> None:
    command = [sys.executable, "-c", NOT_ASKED_FOR]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "False\n"
