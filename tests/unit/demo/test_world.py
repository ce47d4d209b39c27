"""The world as a whole: it starts, stops, says what is in the way, and keeps its secrets."""

import asyncio
import os
import socket
from dataclasses import FrozenInstanceError, astuple, replace

import httpx2
import pytest

from ext_authz.demo.loopback import PortTakenError, free_ports
from ext_authz.demo.oauth_endpoint import Refusal
from ext_authz.demo.world import World


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_it_serves_within_the_current_loop_and_stops_cleanly() -> None:
    tasks_before = asyncio.all_tasks()
    async with World.running() as world, httpx2.AsyncClient(trust_env=False) as http:
        metadata = await http.get(
            f"{world.identity_provider.issuer}/.well-known/openid-configuration"
        )
        assert metadata.status_code == 200

    assert not any(answers(port) for port in astuple(world.ports))
    assert asyncio.all_tasks() == tasks_before


def test_it_runs_again_and_again_with_new_secrets_each_time() -> None:
    ports = free_ports()
    secrets = []
    for _ in range(2):
        with World.in_thread(ports) as world:
            secrets.append((world.password("alice"), world.crm.client_secret.reveal()))
            assert answers(ports.crm)

    assert not set(secrets[0]) & set(secrets[1])
    assert not answers(ports.crm)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("identity_provider", "the identity provider"),
        ("crm", "the CRM"),
        ("wiki", "the wiki"),
        ("wiki_authorization_server", "the wiki's authorization server"),
    ],
)
def test_a_taken_port_is_named_in_one_sentence(field: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = replace(free_ports(), **{field: port})
        with pytest.raises(PortTakenError) as taken, World.in_thread(ports):
            pass

    reason = "Address already in use"
    assert str(taken.value) == f"Port {port}, which {name} needs, cannot be had: {reason}."


def test_a_port_given_out_twice_is_a_taken_port() -> None:
    ports = free_ports()
    twice = replace(ports, wiki=ports.crm)
    with pytest.raises(PortTakenError, match="the wiki needs"), World.in_thread(twice):
        pass


def test_free_ports_are_all_different() -> None:
    assert len(set(astuple(free_ports()))) == 5


def test_nothing_secret_is_printed(world: World) -> None:
    secrets = (
        world.password("alice"),
        world.crm.client_secret.reveal(),
        world.wiki.client_secret.reveal(),
        world.hub_private_key.reveal().splitlines()[1],
    )
    printed = f"{world!r} {world.identity_provider.policy!r} {world.crm} {world.wiki}"

    assert not any(secret in printed for secret in secrets)


def test_it_cannot_be_changed(world: World) -> None:
    with pytest.raises(FrozenInstanceError):
        world.ports = free_ports()  # type: ignore[misc]


def test_it_knows_only_its_own_people(world: World) -> None:
    with pytest.raises(KeyError):
        world.password("mallory")


def test_a_user_switched_off_cannot_sign_in(world: World) -> None:
    world.disable("carol")
    with pytest.raises(Refusal) as refused:
        world.sign_in("carol")
    world.enable("carol")

    assert refused.value.error == "user_disabled"
    assert world.sign_in("carol")


def test_what_the_hub_must_know_is_written_as_the_servers_publish_it(world: World) -> None:
    crm, wiki, ports = world.crm, world.wiki, world.ports

    assert crm.resource == f"http://127.0.0.1:{ports.crm}/mcp"
    assert crm.issuer == f"http://127.0.0.1:{ports.crm}/"
    assert wiki.resource == f"http://127.0.0.1:{ports.wiki}/mcp"
    assert wiki.issuer == f"http://127.0.0.1:{ports.wiki_authorization_server}"
    for site in (crm, wiki):
        root = site.resource.removesuffix("/mcp")
        url = f"{root}/.well-known/oauth-protected-resource/mcp"
        metadata = httpx2.get(url, trust_env=False).json()
        assert metadata["resource"] == site.resource
        assert metadata["authorization_servers"] == [site.issuer]


def test_a_companys_proxy_is_not_asked_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "corp.example")
    monkeypatch.delenv("no_proxy", raising=False)
    with World.in_thread():
        assert os.environ["NO_PROXY"] == "corp.example,127.0.0.1,localhost"
        assert os.environ["no_proxy"] == "127.0.0.1,localhost"

    assert os.environ["NO_PROXY"] == "corp.example"
    assert "no_proxy" not in os.environ
