"""What fuzzing found, each in a sentence; the inputs are seeds of their targets too."""

from pathlib import Path

import pytest

from ext_authz.access_log.entry import read_entries
from ext_authz.auditor.files import BadInput, Source, find_source
from ext_authz.auditor.show import AsStored, AsTable, show
from ext_authz.auditor.sums import stats
from ext_authz.auditor.verify import verify
from ext_authz.auditor.wanted import Wanted
from ext_authz.identity.issuer_keys import _usable_keys
from ext_authz.outbound import OutboundError, refuse_unguarded
from ext_authz.reasons import Denied
from ext_authz.request.facts import read_facts
from ext_authz.settings.envoy_yaml import settings_of
from ext_authz.settings.load import read_settings
from ext_authz.settings.yaml_cursor import Faults, SettingsInvalid, parse_yaml
from fuzz.seeds.check_request import seed
from fuzz.targets import CORPORA, one_input_of
from fuzz.targets.audit_file import ASKED, KEY, linked
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


def log_of(name: str, folder: Path) -> Source:
    """The seed as an auditor gets it: its events linked."""
    file = folder / "audit.jsonl"
    file.write_bytes(linked((CORPORA / "audit_file" / name).read_bytes()))
    return find_source(str(file))


def test_a_packed_log_that_is_no_gzip_inside_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no whole gzip file"):
        verify([log_of("packed_and_altered", tmp_path)])


def test_the_name_of_a_key_that_a_log_makes_up_steers_no_terminal(tmp_path: Path) -> None:
    report = verify([log_of("checkpoint_of_an_odd_key", tmp_path)], keys=[KEY])

    assert r"the key \u001b[2J, which was not given" in report.breaks[0].sentence


@pytest.mark.parametrize("name", ["milliseconds", "verdict"])
def test_a_decision_of_odd_types_does_not_keep_an_auditor_from_the_others(
    tmp_path: Path, name: str
) -> None:
    odd = log_of(f"decision_of_odd_{name}", tmp_path)
    (tmp_path / "other").mkdir()
    sources = [odd, log_of("allowed", tmp_path / "other")]

    rows = list(show(sources, Wanted(), AsStored(), limit=None, follow=False))
    sums = stats(sources, ASKED)

    assert len(rows) == 2  # the decision and its outcome
    assert sums.verdicts["allow"] >= 1
    assert sums.unreadable == 1


def test_an_outcome_that_cannot_be_read_does_not_hide_its_decision(tmp_path: Path) -> None:
    source = log_of("outcomes_of_odd_types", tmp_path)

    rows = list(show([source], Wanted(), AsTable(None), limit=None, follow=False))

    assert len(rows) == 2  # the head and the decision


def test_no_call_takes_less_than_no_time() -> None:
    (entry,) = read_entries((CORPORA / "access_log" / "duration_negative").read_bytes())

    assert entry.outcome.milliseconds == 0
