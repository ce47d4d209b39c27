"""An issuer's metadata document, fetched where the standards put it and believed only if it says so.

OpenID Connect Discovery 1.0 section 4 and RFC 8414 section 3: the document's `issuer` must be the
very string we asked about, code point by code point, or the document is somebody else's.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from ext_authz.clock import Clock
from ext_authz.outbound import Outbound, OutboundError, Reply, is_loopback
from ext_authz.single_flight import SingleFlight
from ext_authz.strict_json import NotStrictJson, parse_object

FRESH_SECONDS: Final = 3600
RETRY_SECONDS: Final = 5
_OK: Final = 200
Document = Mapping[str, object]


class MetadataUnavailable(Exception):
    """No document could be fetched; the message names the kind of fault."""


class MetadataInvalid(Exception):
    """A document was fetched and must not be used; the message names the rule."""


def openid_locations(issuer: str) -> Sequence[str]:
    """Where an OpenID provider's document stands (Discovery 1.0 section 4.1)."""
    return (issuer.removesuffix("/") + "/.well-known/openid-configuration",)


def authorization_server_locations(issuer: str) -> Sequence[str]:
    """Where an authorization server's may stand, in the order that MCP prescribes."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.removesuffix("/")
    inserted = [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
    ]
    return tuple(dict.fromkeys([*inserted, *openid_locations(issuer)]))


class IssuerMetadata:
    """The document of one issuer: fetched when first needed, once for all who wait, kept an hour.

    While a newer one cannot be had, the last good one serves.
    """

    def __init__(
        self, issuer: str, locations: Sequence[str], outbound: Outbound, clock: Clock
    ) -> None:
        self.issuer = issuer
        self._locations = locations
        self._outbound = outbound
        self._clock = clock
        self._document: Document | None = None
        self._next_fetch = float("-inf")
        self._flight: SingleFlight[Document] = SingleFlight()

    async def get(self) -> Document:
        """The document. Raises `MetadataUnavailable` or `MetadataInvalid`."""
        if self._document is not None and self._clock.monotonic() < self._next_fetch:
            return self._document
        document, _joined = await self._flight.run(self.issuer, self._refresh)
        return document

    async def address(self, name: str) -> str:
        """The URL that the document gives as `name`; raises what `get` raises.

        One on loopback is believed only of an issuer that is there itself: nobody elsewhere sends us,
        or our credentials, to our own neighbours.
        """
        url = (await self.get()).get(name)
        if not isinstance(url, str):
            raise MetadataInvalid(f"the metadata has no {name}")
        if _is_on_loopback(url) and not _is_on_loopback(self.issuer):
            raise MetadataInvalid(f"{name} is on loopback; configure it to accept that")
        return url

    async def _refresh(self) -> Document:
        try:
            self._document = await self._fetch()
            self._next_fetch = self._clock.monotonic() + FRESH_SECONDS
        except MetadataUnavailable:
            if self._document is None:
                raise
            self._next_fetch = self._clock.monotonic() + RETRY_SECONDS
        return self._document

    async def _fetch(self) -> Document:
        fault = "no location answered"
        for location in self._locations:
            try:
                return self._checked(await self._outbound.get(location))
            except (OutboundError, MetadataUnavailable) as error:
                fault = str(error)
        raise MetadataUnavailable(fault)

    def _checked(self, reply: Reply) -> Document:
        if reply.status != _OK:
            raise MetadataUnavailable(f"status {reply.status}")
        try:
            document = parse_object(reply.body)
        except NotStrictJson:
            raise MetadataUnavailable("the metadata is not a JSON object") from None
        if document.get("issuer") != self.issuer:
            raise MetadataInvalid("the metadata names another issuer")
        return document


def _is_on_loopback(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False  # no URL, and refused on the way out
