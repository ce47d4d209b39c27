"""Envoy as a process: it takes the shipped file, and shows nobody its admin interface."""

import stat
import subprocess
from pathlib import Path

import httpx2
import pytest

from ext_authz.demo.front import Front, envoy_command, shipped_yaml
from tests.envoy.fronts import envoy

LISTEN = "0A"  # the state, in /proc/net/tcp


def test_it_finds_no_fault_with_the_shipped_file() -> None:
    command = [*envoy_command(shipped_yaml()), "--mode", "validate"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert run.returncode == 0, run.stderr
    assert "OK" in run.stdout
    assert "deprecated" not in run.stderr.lower()


def listening_ports(pid: int) -> set[int]:
    """The TCP ports on which the process listens."""
    own = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in own:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


async def test_its_admin_interface_is_on_a_unix_socket_for_its_own_user_alone(
    own_front: Front,
) -> None:
    socket = own_front.folder / "envoy-admin.sock"
    async with envoy(own_front) as running:
        ports = listening_ports(running.pid)
        mode = socket.stat().st_mode
        transport = httpx2.AsyncHTTPTransport(uds=str(socket))
        async with httpx2.AsyncClient(transport=transport) as http:
            answer = await http.get("http://admin/ready")

    assert ports == {int(own_front.url.rpartition(":")[2])}
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert answer.text.strip() == "LIVE"


@pytest.mark.parametrize("path", ["/config_dump", "/stats", "/quitquitquit", "/ready"])
async def test_its_port_for_clients_knows_no_admin_path(front: Front, path: str) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(front.url + path)).status_code == 404
        assert (await http.post(front.url + path)).status_code == 404
