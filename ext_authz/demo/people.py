"""Who is in the demo world, and what the administrator lets them do."""

import secrets
from collections.abc import Mapping
from typing import Final

from ext_authz.demo.policy import Connection, Policy, RegisteredClient, User
from ext_authz.demo.site import Site
from ext_authz.secret import Secret

HUB_CLIENT: Final = "hub"


def demo_policy(*, issuer: str, hub_public_key: str, crm: Site, wiki: Site) -> Policy:
    """Alice and carol may do everything, bob may read tickets. Passwords are new each time."""
    return Policy(
        issuer=issuer,
        sign_in_client=HUB_CLIENT,
        users=tuple(_user(name) for name in ("alice", "bob", "carol")),
        clients=(
            RegisteredClient(
                client_id=HUB_CLIENT, auth="private_key_jwt", public_key=hub_public_key
            ),
        ),
        connections=(
            _connection(crm, {"alice": crm.scopes, "bob": ("tickets.read",), "carol": crm.scopes}),
            _connection(wiki, {"alice": wiki.scopes, "carol": wiki.scopes}),
        ),
    )


def _user(name: str) -> User:
    return User(
        name=name,
        subject=f"00u-{name}",
        email=f"{name}@corp.example",
        password=Secret(secrets.token_urlsafe(12)),
    )


def _connection(site: Site, entitlements: Mapping[str, tuple[str, ...]]) -> Connection:
    return Connection(
        audience=site.issuer,
        resource=site.resource,
        client_ids={HUB_CLIENT: site.client_id},
        entitlements={name: frozenset(scopes) for name, scopes in entitlements.items()},
    )
