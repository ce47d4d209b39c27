"""The issuers of the settings, each with what we need to deal with it: keys, and its token endpoint."""

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from ext_authz.audit.fingerprint import SHORTEST_KEY, Fingerprints
from ext_authz.audit.record import fingerprints_of
from ext_authz.clock import Clock
from ext_authz.exchange.endpoint_location import Locate, configured, discovered
from ext_authz.exchange.id_jag import IdJagIssuer
from ext_authz.exchange.issuances import Issuances
from ext_authz.exchange.jwt_bearer import Redeemer
from ext_authz.exchange.token_endpoint import TokenEndpoint
from ext_authz.identity.issuer_keys import IssuerKeys, KeysUnavailable
from ext_authz.identity.issuer_metadata import (
    IssuerMetadata,
    authorization_server_locations,
    openid_locations,
)
from ext_authz.log import logger
from ext_authz.outbound import Outbound
from ext_authz.settings.settings import (
    AuditSettings,
    AuthorizationServer,
    IdentityProvider,
    OAuthClient,
    Settings,
)

_log: Final = logger("issuers")


class Issuers:
    """One set of metadata, keys and token endpoint for each issuer that the settings name."""

    def __init__(self, settings: Settings, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self.keys: dict[str, IssuerKeys] = {}
        self.id_jags: dict[str, IdJagIssuer] = {}
        self.redeemers: dict[str, Redeemer] = {}
        self.issuances: dict[str, Issuances] = {}
        self._name_of = _users_names(settings.audit)
        for provider in settings.identity_providers.values():
            self._add_provider(provider)
        for server in settings.authorization_servers.values():
            self._add_authorization_server(server)

    async def warm(self) -> None:
        """Fetches every issuer's keys, so that the first user does not wait, and says who is down."""
        for issuer, keys in self.keys.items():
            try:
                await keys.find(None)
            except KeysUnavailable as error:
                _log.warning("identity_provider_unreachable", issuer=issuer, fault=str(error))

    def _add_provider(self, provider: IdentityProvider) -> None:
        issuer = provider.issuer
        metadata = self._metadata(issuer, openid_locations(issuer))
        self.keys[issuer] = IssuerKeys(metadata, provider.jwks_uri, self._outbound, self._clock)
        named = provider.token_endpoint
        locate = configured(named) if named else discovered(metadata, on_origin=False)
        if provider.quota is not None:
            self.issuances[issuer] = Issuances(provider.quota, self._clock, self._name_of)
        endpoint = self._endpoint(issuer, provider.client, locate)
        self.id_jags[issuer] = IdJagIssuer(endpoint, self._clock, self.issuances.get(issuer))

    def _add_authorization_server(self, server: AuthorizationServer) -> None:
        metadata = self._metadata(server.issuer, authorization_server_locations(server.issuer))
        named = server.token_endpoint
        locate = configured(named) if named else discovered(metadata, on_origin=True)
        endpoint = self._endpoint(server.issuer, server.client, locate)
        self.redeemers[server.issuer] = Redeemer(endpoint)

    def _metadata(self, issuer: str, locations: Sequence[str]) -> IssuerMetadata:
        return IssuerMetadata(issuer, locations, self._outbound, self._clock)

    def _endpoint(self, issuer: str, client: OAuthClient, locate: Locate) -> TokenEndpoint:
        return TokenEndpoint(issuer, client, locate, self._outbound, self._clock)


def _users_names(settings: AuditSettings) -> Callable[[str, str], str]:
    """What the log, which is not the audit, calls users: their keyed hash, whatever the audit shows.

    Without a key for it, one of this process's own: it tells users apart, and nobody who they are.
    """
    fingerprints = fingerprints_of(settings) or Fingerprints(secrets.token_hex(SHORTEST_KEY))
    return fingerprints.of_subject
