"""A metadata document: where it is looked for, and when it is believed."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from ext_authz.identity.issuer_metadata import (
    FRESH_SECONDS,
    RETRY_SECONDS,
    IssuerMetadata,
    MetadataInvalid,
    MetadataUnavailable,
    authorization_server_locations,
    openid_locations,
)
from ext_authz.outbound import MAX_ANSWER_BYTES, Outbound
from tests.doubles.loopback import Dial, Endpoint, Loopback, Received
from tests.doubles.movable_time import MovableTime

OAUTH = "/.well-known/oauth-authorization-server/tenant"
OPENID = "/.well-known/openid-configuration/tenant"
APPENDED = "/tenant/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("issuer", "location"),
    [
        ("https://idp.example", "https://idp.example/.well-known/openid-configuration"),
        ("https://idp.example/", "https://idp.example/.well-known/openid-configuration"),
        ("https://idp.example/t", "https://idp.example/t/.well-known/openid-configuration"),
        ("https://idp.example/t/", "https://idp.example/t/.well-known/openid-configuration"),
    ],
)
def test_an_openid_provider_has_its_document_below_the_issuer(issuer: str, location: str) -> None:
    assert openid_locations(issuer) == (location,)


@pytest.mark.parametrize("issuer", ["https://as.example", "https://as.example/"])
def test_an_authorization_server_without_a_path_has_two_places(issuer: str) -> None:
    assert authorization_server_locations(issuer) == (
        "https://as.example/.well-known/oauth-authorization-server",
        "https://as.example/.well-known/openid-configuration",
    )


@pytest.mark.parametrize("issuer", ["https://as.example:8443/t", "https://as.example:8443/t/"])
def test_an_authorization_server_with_a_path_has_three(issuer: str) -> None:
    assert authorization_server_locations(issuer) == (
        "https://as.example:8443/.well-known/oauth-authorization-server/t",
        "https://as.example:8443/.well-known/openid-configuration/t",
        "https://as.example:8443/t/.well-known/openid-configuration",
    )


class Issuer:
    """An issuer under a path, with its document at each of its three places."""

    def __init__(self, outbound: Outbound, time: MovableTime) -> None:
        self._outbound = outbound
        self._time = time
        self.places = {path: Endpoint(self._document) for path in (OAUTH, OPENID, APPENDED)}
        self.server = Loopback(self.places)

    @property
    def issuer(self) -> str:
        return f"{self.server.origin}/tenant"

    def metadata(self) -> IssuerMetadata:
        locations = authorization_server_locations(self.issuer)
        return IssuerMetadata(self.issuer, locations, self._outbound, self._time.clock)

    def _document(self, _request: Received) -> dict[str, object]:
        return {"issuer": self.issuer, "token_endpoint": f"{self.issuer}/token"}


@pytest.fixture
async def issuer(outbound: Outbound, time: MovableTime) -> AsyncIterator[Issuer]:
    issuer = Issuer(outbound, time)
    async with issuer.server:
        yield issuer


async def test_a_document_that_names_its_issuer_is_believed(issuer: Issuer) -> None:
    document = await issuer.metadata().get()

    assert document == {"issuer": issuer.issuer, "token_endpoint": f"{issuer.issuer}/token"}


@pytest.mark.parametrize(
    "named",
    [
        lambda issuer: issuer + "/",
        lambda issuer: issuer.upper(),
        lambda issuer: issuer.removesuffix("/tenant"),
        lambda issuer: issuer.replace("127.0.0.1", "localhost"),
        lambda issuer: "https://evil.example",
        lambda issuer: [issuer],
        lambda issuer: "",
        lambda issuer: None,
    ],
)
async def test_a_document_that_names_another_issuer_is_not(
    issuer: Issuer, named: Callable[[str], object]
) -> None:
    """Nor is the next place tried: that somebody else answers here is reason enough to stop."""
    issuer.places[OAUTH].dial = Dial(members={"issuer": named(issuer.issuer)})

    with pytest.raises(MetadataInvalid):
        await issuer.metadata().get()
    assert issuer.server.paths == [OAUTH]


NO_DOCUMENTS = {
    "not found": Dial(status=404),
    "an error": Dial(status=500),
    "a redirect": Dial(status=301, headers={"location": "https://evil.example"}),
    "a page": Dial(body=b"<!doctype html><title>Home</title>"),
    "a list": Dial(body=b"[]"),
    "nothing": Dial(body=b""),
    "duplicate keys": Dial(body=b'{"issuer": 1, "issuer": 2}'),
    "too much": Dial(body=b" " * (MAX_ANSWER_BYTES + 1)),
    "half an answer": Dial(cut=True),
}


@pytest.mark.parametrize("dial", NO_DOCUMENTS.values(), ids=NO_DOCUMENTS)
async def test_where_one_place_has_no_document_the_next_is_tried(
    issuer: Issuer, dial: Dial
) -> None:
    issuer.places[OAUTH].dial = dial
    issuer.places[OPENID].dial = dial

    assert (await issuer.metadata().get())["issuer"] == issuer.issuer
    assert issuer.server.paths == [OAUTH, OPENID, APPENDED]


@pytest.mark.parametrize("dial", NO_DOCUMENTS.values(), ids=NO_DOCUMENTS)
async def test_where_no_place_has_a_document_there_is_none(issuer: Issuer, dial: Dial) -> None:
    for place in issuer.places.values():
        place.dial = dial

    with pytest.raises(MetadataUnavailable):
        await issuer.metadata().get()


async def test_the_fault_names_its_kind(issuer: Issuer) -> None:
    for place in issuer.places.values():
        place.dial = Dial(status=503)

    with pytest.raises(MetadataUnavailable, match=r"^status 503$"):
        await issuer.metadata().get()


async def test_a_hundred_who_ask_at_once_cause_one_fetch(issuer: Issuer) -> None:
    metadata = issuer.metadata()

    await asyncio.gather(*(metadata.get() for _ in range(100)))

    assert issuer.server.paths == [OAUTH]


async def test_a_document_is_kept_for_an_hour(issuer: Issuer, time: MovableTime) -> None:
    metadata = issuer.metadata()
    await metadata.get()
    time.passes(FRESH_SECONDS - 1)
    await metadata.get()
    before = len(issuer.server.paths)
    time.passes(1)
    await metadata.get()

    assert (before, len(issuer.server.paths)) == (1, 2)


async def test_while_a_newer_one_cannot_be_had_the_last_good_one_serves(
    issuer: Issuer, time: MovableTime
) -> None:
    metadata = issuer.metadata()
    good = await metadata.get()
    for place in issuer.places.values():
        place.dial = Dial(status=503)
    time.passes(FRESH_SECONDS)

    assert await metadata.get() is good
    assert await metadata.get() is good
    assert len(issuer.server.paths) == 1 + 3


async def test_a_newer_one_is_asked_for_again_soon(issuer: Issuer, time: MovableTime) -> None:
    metadata = issuer.metadata()
    await metadata.get()
    issuer.places[OAUTH].next = [Dial(status=503)]
    issuer.places[OPENID].next = issuer.places[APPENDED].next = [Dial(status=503)] * 2
    time.passes(FRESH_SECONDS)
    await metadata.get()
    issuer.places[OAUTH].dial = Dial(members={"token_endpoint": "https://new.example"})
    time.passes(RETRY_SECONDS)

    assert (await metadata.get())["token_endpoint"] == "https://new.example"


async def test_a_newer_one_of_another_issuer_is_fatal_in_spite_of_the_last_good_one(
    issuer: Issuer, time: MovableTime
) -> None:
    metadata = issuer.metadata()
    await metadata.get()
    issuer.places[OAUTH].dial = Dial(members={"issuer": "https://evil.example"})
    time.passes(FRESH_SECONDS)

    for _ in range(2):
        with pytest.raises(MetadataInvalid):
            await metadata.get()


async def test_a_failure_is_not_kept(issuer: Issuer) -> None:
    metadata = issuer.metadata()
    for place in issuer.places.values():
        place.next = [Dial(status=503)]
    with pytest.raises(MetadataUnavailable):
        await metadata.get()

    assert (await metadata.get())["issuer"] == issuer.issuer


# ---- the addresses in it


def elsewhere(issuer: Issuer) -> IssuerMetadata:
    """The metadata of an issuer that is not on loopback, though its document is."""
    name = "https://idp.corp.example"
    issuer.places[OAUTH].dial = Dial(members={"issuer": name, **issuer.places[OAUTH].dial.members})
    location = f"{issuer.server.origin}{OAUTH}"
    return IssuerMetadata(name, [location], issuer._outbound, issuer._time.clock)


async def test_an_address_is_given_as_it_stands(issuer: Issuer) -> None:
    assert await issuer.metadata().address("token_endpoint") == f"{issuer.issuer}/token"


@pytest.mark.parametrize("value", [None, 7, ["https://idp.corp.example/token"], {}], ids=str)
async def test_an_address_that_is_no_text_is_none(issuer: Issuer, value: object) -> None:
    issuer.places[OAUTH].dial = Dial(members={"token_endpoint": value})

    with pytest.raises(MetadataInvalid, match=r"^the metadata has no token_endpoint$"):
        await issuer.metadata().address("token_endpoint")


async def test_an_address_that_is_missing_is_none(issuer: Issuer) -> None:
    with pytest.raises(MetadataInvalid, match=r"^the metadata has no jwks_uri$"):
        await issuer.metadata().address("jwks_uri")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080/", "http://localhost/", "https://[::1]/", "https://127.9.9.9/keys"],
)
async def test_an_issuer_elsewhere_cannot_send_us_to_our_own_neighbours(
    issuer: Issuer, url: str
) -> None:
    issuer.places[OAUTH].dial = Dial(members={"jwks_uri": url})

    with pytest.raises(MetadataInvalid, match=r"^jwks_uri is on loopback"):
        await elsewhere(issuer).address("jwks_uri")


@pytest.mark.parametrize("url", ["https://keys.corp.example/jwks", "http://[no-url"])
async def test_what_else_an_issuer_elsewhere_names_is_judged_on_the_way_out(
    issuer: Issuer, url: str
) -> None:
    issuer.places[OAUTH].dial = Dial(members={"jwks_uri": url})

    assert await elsewhere(issuer).address("jwks_uri") == url
