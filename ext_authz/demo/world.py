"""The world that the demo, the tests and first-time users run against.

An identity provider and two MCP servers with their authorization servers, on loopback sockets,
speaking the real protocols. Envoy and the service are not part of it: they stand in between.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Self

from starlette.types import ASGIApp

from ext_authz.demo.crm_server import crm_app, crm_site
from ext_authz.demo.identity_provider import IdentityProvider
from ext_authz.demo.loopback import HOST, Ports, Served, free_ports, in_thread, serving
from ext_authz.demo.people import HUB_CLIENT, demo_policy
from ext_authz.demo.signing_keys import SigningKey
from ext_authz.demo.site import Site
from ext_authz.demo.tally import CountedTokenEndpoint, Tally
from ext_authz.demo.wiki_authorization_server import JWKS_PATH, wiki_authorization_server_app
from ext_authz.demo.wiki_server import wiki_app, wiki_site
from ext_authz.demo.witness import Note, Witness, Witnessed
from ext_authz.secret import Secret

CHATTY_LOGGERS: Final = ("authlib", "fastmcp", "mcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the providers did so far. `leg2` is by server; refusals are by OAuth error code."""

    sign_ins: int
    leg1: int
    leg1_refused: Mapping[str, int]
    leg2: Mapping[str, int]
    leg2_refused: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Addresses, people and secrets of one run, all of them new.

    The hub signs its client assertions with `hub_private_key` (a PEM text, P-256). `witnesses` and
    `redemptions` are by server name: "crm", "wiki".
    """

    ports: Ports
    identity_provider: IdentityProvider
    crm: Site
    wiki: Site
    hub_private_key: Secret
    witnesses: Mapping[str, Witness]
    redemptions: Mapping[str, Tally]
    hub_client_id: str = HUB_CLIENT

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, ports: Ports | None = None) -> AsyncIterator[Self]:
        """A world that serves in this event loop until the block ends; raises `PortTakenError`."""
        with _quiet(CHATTY_LOGGERS):
            world = cls._new(ports or free_ports())
            async with serving(_servers(world)):
                yield world

    @classmethod
    def in_thread(cls, ports: Ports | None = None) -> AbstractContextManager[Self]:
        """The same for callers without an event loop: it serves in a thread with one of its own."""
        return in_thread(cls.running(ports))

    @classmethod
    def _new(cls, ports: Ports) -> Self:
        hub_key = SigningKey.new()
        issuer = f"http://{HOST}:{ports.identity_provider}"
        crm = crm_site(ports.crm)
        wiki = wiki_site(ports.wiki, authorization_server_port=ports.wiki_authorization_server)
        policy = demo_policy(issuer=issuer, hub_public_key=hub_key.public_pem(), crm=crm, wiki=wiki)
        return cls(
            ports=ports,
            identity_provider=IdentityProvider(policy),
            crm=crm,
            wiki=wiki,
            hub_private_key=Secret(hub_key.private_pem()),
            witnesses={site.name: Witness(user_token_issuer=issuer) for site in (crm, wiki)},
            redemptions={site.name: Tally() for site in (crm, wiki)},
        )

    def password(self, name: str) -> str:
        user = self.identity_provider.policy.user(name)
        if user is None:
            raise KeyError(name)
        return user.password.reveal()

    def sign_in(self, name: str) -> str:
        """An ID token for the hub, as a browser's sign-in would bring it; raises `Refusal`."""
        return self.identity_provider.sign_in(name, self.password(name))

    def disable(self, name: str) -> None:
        """Switches the user off at the identity provider."""
        self.identity_provider.disable(name)

    def enable(self, name: str) -> None:
        self.identity_provider.enable(name)

    def rotate_keys(self, *, drop: bool = False) -> None:
        """Lets the identity provider sign with its next key; `drop` forgets the old ones."""
        self.identity_provider.keys.rotate(drop=drop)

    def counts(self) -> Counts:
        provider = self.identity_provider
        return Counts(
            sign_ins=provider.sign_ins.granted,
            leg1=provider.exchanges.granted,
            leg1_refused=provider.exchanges.refused,
            leg2={name: tally.granted for name, tally in self.redemptions.items()},
            leg2_refused={name: tally.refused for name, tally in self.redemptions.items()},
        )

    def witnessed(self) -> Mapping[str, tuple[Note, ...]]:
        """What reached each MCP server, by its name, oldest first."""
        return {name: witness.notes for name, witness in self.witnesses.items()}

    def user_tokens_seen(self) -> int:
        """How many tokens of the identity provider reached an MCP server. The point is: none."""
        return sum(witness.user_tokens_seen for witness in self.witnesses.values())


def _servers(world: World) -> tuple[Served, ...]:
    ports = world.ports
    return (
        Served(
            name="the identity provider",
            port=ports.identity_provider,
            app=world.identity_provider.app(),
        ),
        Served(name="the CRM", port=ports.crm, app=_crm(world)),
        Served(name="the wiki", port=ports.wiki, app=_wiki(world)),
        Served(
            name="the wiki's authorization server",
            port=ports.wiki_authorization_server,
            app=_wiki_authorization_server(world),
        ),
    )


def _crm(world: World) -> ASGIApp:
    app = crm_app(
        world.crm,
        identity_provider=world.identity_provider.issuer,
        hosts=_hosts(world.ports.front, world.ports.crm),
    )
    counted = CountedTokenEndpoint(app, world.redemptions["crm"])
    return Witnessed(counted, world.witnesses["crm"])


def _wiki(world: World) -> ASGIApp:
    app = wiki_app(
        world.wiki,
        jwks_uri=f"{world.wiki.issuer}{JWKS_PATH}",
        hosts=_hosts(world.ports.front, world.ports.wiki),
    )
    return Witnessed(app, world.witnesses["wiki"])


def _wiki_authorization_server(world: World) -> ASGIApp:
    app = wiki_authorization_server_app(
        world.wiki,
        identity_provider=world.identity_provider.issuer,
        identity_provider_jwks=world.identity_provider.jwks_uri,
    )
    return CountedTokenEndpoint(app, world.redemptions["wiki"])


def _hosts(*ports: int) -> tuple[str, ...]:
    """The Host headers a server answers to: Envoy passes on the front's."""
    return tuple(f"{host}:{port}" for port in ports for host in (HOST, "localhost"))


@contextlib.contextmanager
def _quiet(loggers: tuple[str, ...]) -> Iterator[None]:
    """Silences below ERROR what the libraries say about every refusal that a demo provokes."""
    before = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
