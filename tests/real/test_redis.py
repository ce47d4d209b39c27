"""Replicas that share over Debian's Redis: an older server than the Valkey of the unit tests, with TLS.

Needs redis-server, or on Debian apt-get to fetch the package with, which is unpacked and not installed.
"""

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trustme

from ext_authz.exchange.shared.breaker import Unavailable
from ext_authz.settings.valkey_url import ValkeyAddress
from tests.doubles.valkey import Valkey

# the same tests, over this server
from tests.unit.exchange.conftest import alice, hub
from tests.unit.exchange.shared.conftest import (
    MakeServer,
    leases,
    replica,
    server_at,
    valkey,
)
from tests.unit.exchange.shared.test_lease import *  # noqa: F403
from tests.unit.exchange.shared.test_sharing import *  # noqa: F403
from tests.unit.exchange.shared.test_under_load import *  # noqa: F403

PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
FIXTURES = (alice, hub, leases, replica, server_at, valkey)


@pytest.fixture(scope="session")
def valkey_program(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """The installed server, or Debian's from its package."""
    installed = shutil.which("redis-server")
    if installed:
        return [installed]
    assert shutil.which("apt-get"), "install redis-server"
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True, capture_output=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    (libraries,) = (folder / "root/usr/lib").glob("*-linux-gnu*")
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(folder / "root/usr/bin/redis-server")]


@pytest.fixture
async def over_tls(
    valkey_program: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ValkeyAddress]:
    """Where it listens with a certificate that is trusted from now on."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pem, ca = str(tmp_path / "server.pem"), str(tmp_path / "ca.pem")
    files = ("--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", ca)
    asked = ("--tls-port", str(port), "--tls-auth-clients", "no")
    async with Valkey(valkey_program, tmp_path, *files, *asked):
        yield ValkeyAddress(host="127.0.0.1", port=port, tls=True)


async def test_over_tls(over_tls: ValkeyAddress, server_at: MakeServer) -> None:
    server = server_at(over_tls)

    assert await server.run("return {ARGV[1]}", [], [b"\x00\xff"]) == [b"\x00\xff"]


async def test_over_tls_by_nobody_who_is_not_trusted(
    over_tls: ValkeyAddress, server_at: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(Unavailable, match="ConnectionError"):
        await server_at(over_tls).run("return 1", [], [])
