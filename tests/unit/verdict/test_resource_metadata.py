"""Protected resource metadata (RFC 9728): the way to the enterprise sign-in."""

from dataclasses import replace

import orjson
import pytest

from ext_authz.verdict.resource_metadata import ResourceMetadata, metadata_url
from tests.unit.trails import CRM, IDP

OTHER_IDP = replace(IDP, issuer="https://idp.other.example", sign_in_scopes=("openid", "groups"))


def test_the_document_leads_to_the_identity_provider_and_not_to_the_servers_own() -> None:
    document = ResourceMetadata([IDP]).document(CRM)

    assert orjson.loads(document.body) == {
        "resource": CRM.url,
        "resource_name": "crm",
        "authorization_servers": ["https://idp.corp.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["email", "openid"],
    }


def test_every_identity_provider_is_named() -> None:
    metadata = ResourceMetadata([IDP, OTHER_IDP])
    document = orjson.loads(metadata.document(CRM).body)

    assert document["authorization_servers"] == [IDP.issuer, OTHER_IDP.issuer]
    assert document["scopes_supported"] == ["email", "groups", "openid"]
    assert metadata.sign_in_scopes == ("email", "groups", "openid")


def test_without_sign_in_scopes_none_are_named() -> None:
    metadata = ResourceMetadata([replace(IDP, sign_in_scopes=())])

    assert "scopes_supported" not in orjson.loads(metadata.document(CRM).body)
    assert metadata.sign_in_scopes == ()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "https://h.example/crm/mcp",
            "https://h.example/.well-known/oauth-protected-resource/crm/mcp",
        ),
        ("https://h.example/crm/", "https://h.example/.well-known/oauth-protected-resource/crm"),
        ("https://h.example/", "https://h.example/.well-known/oauth-protected-resource"),
        ("https://h.example", "https://h.example/.well-known/oauth-protected-resource"),
        ("http://[::1]:8080/a", "http://[::1]:8080/.well-known/oauth-protected-resource/a"),
    ],
)
def test_the_well_known_part_goes_before_the_path(url: str, expected: str) -> None:
    assert metadata_url(replace(CRM, url=url)) == expected
