"""Where an issuer's token endpoint is: as configured, or as its own metadata says."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from ext_authz.identity.issuer_metadata import IssuerMetadata, MetadataInvalid

Locate = Callable[[], Awaitable[str]]


def configured(url: str) -> Locate:
    """The operator named it."""

    async def locate() -> str:
        return url

    return locate


def discovered(metadata: IssuerMetadata, *, on_origin: bool) -> Locate:
    """The metadata names it (RFC 8414 section 2); raises what fetching that raises.

    With `on_origin` it must be on the issuer's own origin, so that whoever can write a metadata
    document cannot have our credentials sent elsewhere; where an AS truly keeps it elsewhere, the
    operator configures it.
    """

    async def locate() -> str:
        url = await metadata.address("token_endpoint")
        if on_origin and _origin(url) != _origin(metadata.issuer):
            raise MetadataInvalid(
                "token_endpoint is on another origin; configure it to accept that"
            )
        return url

    return locate


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise MetadataInvalid("token_endpoint is not a URL") from None
    return parts.scheme, parts.netloc
