"""What fuzzing found, each in a sentence; the inputs are seeds of their targets too."""

import pytest

from ext_authz.identity.issuer_keys import _usable_keys
from ext_authz.outbound import OutboundError, refuse_unguarded
from ext_authz.reasons import Denied
from ext_authz.request.facts import read_facts
from ext_authz.settings.envoy_yaml import settings_of
from ext_authz.settings.load import read_settings
from ext_authz.settings.yaml_cursor import Faults, SettingsInvalid, parse_yaml
from fuzz.seeds import seed
from fuzz.targets import CORPORA, one_input_of
from fuzz.targets.jwks import GOOD

ENVOYS_HEADER_LIMIT = 60 * 1024


def faults_of(name: str) -> list[str]:
    document = (CORPORA / "settings_yaml" / name).read_bytes()
    with pytest.raises(SettingsInvalid) as invalid:
        read_settings(settings_of(parse_yaml(document, Faults("f.yaml"))))
    return [str(fault) for fault in invalid.value.faults]


def url_of(name: str) -> str:
    return (CORPORA / "url" / name).read_text().removesuffix("\n")


def test_a_mapping_that_is_its_own_key_is_a_fault_of_its_line() -> None:
    assert "f.yaml:1: ?: is not a text" in faults_of("mapping_is_its_own_key")[0]


@pytest.mark.timeout(2)
def test_mappings_multiplied_as_keys_of_each_other_are_read_in_no_time() -> None:
    assert len(faults_of("a_billion_laughs_in_keys")) < 50


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES999"])
def test_a_key_for_an_algorithm_without_public_keys_does_not_lose_the_others(
    algorithm: str,
) -> None:
    assert list(_usable_keys([GOOD | {"kid": "odd", "alg": algorithm}, GOOD])) == [GOOD["kid"]]


@pytest.mark.parametrize("name", ["number", "hex", "short", "octal", "mapped", "with_dot"])
def test_no_spelling_of_the_cloud_credentials_address_is_let_through(name: str) -> None:
    with pytest.raises(OutboundError):
        refuse_unguarded(url_of(f"cloud_credentials_{name}"))


@pytest.mark.parametrize(
    "name",
    [
        "loopback_and_another_bracket",
        "loopback_as_bracketed_label",
        "loopback_with_brackets_in_zone",
        "percent_in_host",
        "percent_in_host_malformed",
    ],
)
def test_a_host_that_two_parsers_read_differently_is_refused(name: str) -> None:
    with pytest.raises(OutboundError):
        refuse_unguarded(url_of(name))


@pytest.mark.parametrize("character", ["\0", "\r", "\n"])
@pytest.mark.parametrize("field", ["method", "path", "host"])
def test_a_line_break_outside_the_headers_makes_a_request_malformed_too(
    field: str, character: str
) -> None:
    request = seed()
    http = request.attributes.request.http
    setattr(http, field, f"{getattr(http, field)}{character}")

    with pytest.raises(Denied, match=r"^request_malformed$"):
        read_facts(request)


@pytest.mark.parametrize("piece", ["eyJ", "eyJ.", "eyJaaaaaaaaaa.", "a.", "%65", "/.", "\u00e9"])
@pytest.mark.timeout(5)
def test_a_request_as_long_as_envoy_lets_it_be_is_answered_in_no_time(piece: str) -> None:
    long = piece * (ENVOYS_HEADER_LIMIT // len(piece))
    for request in (seed(path=f"/{long}"), seed(x_request_id=long), seed(authorization=long)):
        one_input_of("check_request")(request.SerializeToString())
