"""From the file to the settings, or to every fault in it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.settings.envoy_yaml import settings_of
from ext_authz.settings.load import SIGNATURE_ALGORITHMS, load_settings, read_settings
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import (
    AssertionAudience,
    AuthMethod,
    AuthorizationServer,
    IdentityProvider,
    Match,
    McpServer,
    OAuthClient,
    Quota,
    Settings,
    SubjectToken,
    Timeouts,
)
from ext_authz.settings.yaml_cursor import Faults, SettingsInvalid, parse_yaml
from tests.unit.settings.conftest import EVERY_KEY, WriteSettings
from tests.unit.settings.credentials import Credentials

ENVOY_YAML = Path(__file__).parents[3] / "envoy/envoy.yaml"
CLIENT = "{id: hub, auth: client_secret_post, secret: {file: SECRETS/crm}}"
IDP_ENTRY = f"- {{issuer: https://idp.corp.example, audience: [hub], client: {CLIENT}}}\n"
AS_ENTRY = f"- {{issuer: https://auth.crm.corp.example, client: {CLIENT}}}\n"
ONLY_WHAT_MUST_BE = f"""\
listen: 127.0.0.1:9191
identity_providers:
{IDP_ENTRY}authorization_servers:
{AS_ENTRY}audit: {{file: audit.jsonl}}
"""


def faults_of(file: str) -> list[tuple[int, str, str]]:
    """Line, key and problem of every fault in the file."""
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(file)
    assert {fault.file for fault in invalid.value.faults} == {file}
    assert all(fault.fix.endswith(".") for fault in invalid.value.faults)
    return [(fault.line, fault.key, fault.problem) for fault in invalid.value.faults]


def line_in(text: str, passage: str) -> int:
    return text[: text.index(passage)].count("\n") + 1


def line_of(file: str, passage: str) -> int:
    return line_in(Path(file).read_text(), passage)


def bootstrap(settings: str) -> str:
    """The settings where an Envoy bootstrap has them."""
    indented = "".join(f"      {line}" for line in settings.splitlines(keepends=True))
    return f"""\
node:
  id: mcp-gateway
  cluster: mcp-gateway
  metadata:
    other: {{listen: elsewhere}}
    mcp_ext_authz:
{indented}
static_resources: {{}}
"""


# ---- what is read


def test_every_key_is_read(write_settings: WriteSettings, credentials: Credentials) -> None:
    auth = AuthorizationServer(
        issuer="https://auth.crm.corp.example",
        client=OAuthClient(
            id="hub-at-crm",
            auth=AuthMethod.CLIENT_SECRET_BASIC,
            credential=SecretSource(file=f"{credentials.folder}/crm"),
            algorithm="",
            key_id=None,
            assertion_audience=AssertionAudience.ISSUER,
        ),
        token_endpoint="https://auth.crm.corp.example/token",
    )

    assert load_settings(write_settings()) == Settings(
        listen="unix:/run/mcp-ext-authz/check.sock",
        identity_providers={
            "https://idp.corp.example": IdentityProvider(
                issuer="https://idp.corp.example",
                audience=("hub", "portal"),
                subject_token=SubjectToken.ACCESS_TOKEN,
                algorithms=("ES256", "RS256"),
                client=OAuthClient(
                    id="hub",
                    auth=AuthMethod.PRIVATE_KEY_JWT,
                    credential=SecretSource(file=f"{credentials.folder}/hub.pem"),
                    algorithm="ES256",
                    key_id="hub-1",
                    assertion_audience=AssertionAudience.TOKEN_ENDPOINT,
                ),
                token_endpoint="https://idp.corp.example/token",
                jwks_uri="https://idp.corp.example/keys",
                sign_in_scopes=("openid", "email"),
                quota=Quota(exchanges=250, days=30.0),
            )
        },
        authorization_servers={"https://auth.crm.corp.example": auth},
        servers={
            "crm": McpServer(
                name="crm",
                url="https://mcp.corp.example/crm/mcp",
                resource="https://crm.corp.example/mcp",
                authorization_server=auth,
                scopes=("tickets.read", "tickets.write"),
                match=Match(host="mcp.corp.example", path_prefix="/crm"),
            )
        },
        audit=load_settings(write_settings()).audit,  # test_audit_settings tells it key by key
        timeouts=Timeouts(check=6.0, exchange=5.5, call=2.0),
        shared_cache=load_settings(write_settings()).shared_cache,  # test_shared_cache_settings
    )


def test_what_may_be_left_out_has_a_default(write_settings: WriteSettings) -> None:
    settings = load_settings(write_settings(text=ONLY_WHAT_MUST_BE))
    provider = settings.identity_providers["https://idp.corp.example"]

    assert (settings.servers, settings.timeouts) == ({}, Timeouts(check=5, exchange=4, call=3))
    assert (provider.token_endpoint, provider.jwks_uri, provider.sign_in_scopes) == (None, None, ())
    assert provider.subject_token is SubjectToken.ID_TOKEN
    assert provider.algorithms == SIGNATURE_ALGORITHMS


def test_the_defaults_of_a_key_are_es256_and_the_issuer(write_settings: WriteSettings) -> None:
    text = re.sub(r"    (algorithm|key_id|assertion_audience): .*\n", "", EVERY_KEY)
    settings = load_settings(write_settings(text=text))
    client = settings.identity_providers["https://idp.corp.example"].client

    assert (client.algorithm, client.key_id) == ("ES256", None)
    assert client.assertion_audience is AssertionAudience.ISSUER


def test_an_envoy_bootstrap_holds_the_same_settings(write_settings: WriteSettings) -> None:
    alone = load_settings(write_settings())

    assert load_settings(write_settings(text=bootstrap(EVERY_KEY))) == alone


def test_the_envoy_yaml_that_we_ship_is_read(credentials: Credentials) -> None:
    folder = credentials.folder
    (folder / "secrets").mkdir()
    for name in re.findall(r"mcp-ext-authz/secrets/([\w.-]+)", ENVOY_YAML.read_text()):
        known = folder / name if (folder / name).exists() else folder / "crm"
        (folder / "secrets" / name).symlink_to(known)
    text = ENVOY_YAML.read_text()
    for place in ("/run/mcp-ext-authz", "/var/log/mcp-ext-authz"):
        assert place in text
        text = text.replace(place, str(folder))
    (folder / "envoy.yaml").write_text(text)
    settings = load_settings(str(folder / "envoy.yaml"))

    assert settings.servers.keys() == {"crm", "wiki"}
    assert settings.listen == f"unix:{folder}/check.sock"
    assert settings.audit.file == f"{folder}/audit.jsonl"


def test_a_secret_may_stand_in_the_environment(
    write_settings: WriteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_SECRET", "s3cr3t")
    settings = load_settings(write_settings("{file: SECRETS/crm}", "{env: CRM_SECRET}"))
    client = settings.authorization_servers["https://auth.crm.corp.example"].client

    assert client.credential == SecretSource(env="CRM_SECRET")


@pytest.mark.parametrize(
    "listen", ["unix:/a.sock", "127.0.0.1:9191", "127.9.9.9:1", "localhost:65535", "'[::1]:9191'"]
)
def test_a_socket_or_a_loopback_port_is_listened_on(
    write_settings: WriteSettings, listen: str
) -> None:
    file = write_settings("unix:/run/mcp-ext-authz/check.sock", listen)

    assert load_settings(file).listen == listen.strip("'")


@pytest.mark.parametrize(("written", "seconds"), [("60", 60.0), ("0.5", 0.5), ("1.25", 1.25)])
def test_a_timeout_is_a_number_of_seconds(
    write_settings: WriteSettings, written: str, seconds: float
) -> None:
    file = write_settings("check: 6", f"check: {written}")

    assert load_settings(file).timeouts.check == seconds


def test_an_issuer_is_kept_to_the_letter(write_settings: WriteSettings) -> None:
    file = write_settings(
        "issuer: https://idp.corp.example", "issuer: https://Idp.corp.example:443/"
    )

    assert load_settings(file).identity_providers.keys() == {"https://Idp.corp.example:443/"}


def test_the_host_of_a_match_is_compared_in_lower_case(write_settings: WriteSettings) -> None:
    match = load_settings(write_settings("host: mcp.corp", "host: MCP.Corp")).servers["crm"].match

    assert match is not None
    assert match.host == "mcp.corp.example"


def test_scopes_are_kept_once_each_in_their_order(write_settings: WriteSettings) -> None:
    file = write_settings("[tickets.read, tickets.write]", "[b, a, b]")

    assert load_settings(file).servers["crm"].scopes == ("b", "a")


def test_the_settings_do_not_change(write_settings: WriteSettings) -> None:
    settings = load_settings(write_settings())

    with pytest.raises(TypeError):
        settings.servers["wiki"] = settings.servers["crm"]  # type: ignore[index]


# ---- one fault each

IDPS = "identity_providers"
IDP = "identity_providers[0]"
AS = "authorization_servers[0]"
NOT_PLAIN = "is neither https nor loopback"

MISSING = [
    ("listen: unix:/run/mcp-ext-authz/check.sock\n", "listen", "identity_providers:"),
    ("  audience: [hub, portal]\n", f"{IDP}.audience", "issuer: https://idp"),
    ("    id: hub\n", f"{IDP}.client.id", "client:"),
    ("    key: {file: SECRETS/hub.pem}\n", f"{IDP}.client.key", "client:"),
    ("    auth: client_secret_basic\n", f"{AS}.client.auth", "client:\n    id: hub-at-crm"),
    ("    secret: {file: SECRETS/crm}\n", f"{AS}.client.secret", "client:\n    id: hub-at-crm"),
    ("    url: https://mcp.corp.example/crm/mcp\n", "servers.crm.url", "  crm:\n"),
    ("    resource: https://crm.corp.example/mcp\n", "servers.crm.resource", "  crm:\n"),
    (
        "    authorization_server: https://auth.crm.corp.example\n",
        "servers.crm.authorization_server",
        "  crm:\n",
    ),
    ("host: mcp.corp.example, ", "servers.crm.match.host", "match:"),
    (", path_prefix: /crm", "servers.crm.match.path_prefix", "match:"),
    (EVERY_KEY[EVERY_KEY.index("audit:\n") : EVERY_KEY.index("timeouts:")], "audit", "listen:"),
    (EVERY_KEY[EVERY_KEY.index("identity_") : EVERY_KEY.index("authorization_s")], IDPS, "listen:"),
]


@pytest.mark.parametrize(("passage", "key", "where"), MISSING)
def test_what_must_be_there_is_missed_at_the_mapping_that_lacks_it(
    write_settings: WriteSettings, passage: str, key: str, where: str
) -> None:
    file = write_settings(passage)

    assert faults_of(file) == [(line_of(file, where), key, "is missing")]


@pytest.mark.parametrize("value", ["", "null", "~"])
def test_a_null_is_a_missing_value(write_settings: WriteSettings, value: str) -> None:
    file = write_settings("listen: unix:/run/mcp-ext-authz/check.sock", f"listen: {value}")

    assert faults_of(file) == [(1, "listen", "is missing")]


QUOTA = "quota: {exchanges: 250, days: 30}"
WRONG = [
    # a quota
    (QUOTA, "quota: 250", f"{IDP}.quota", "is not a mapping"),
    (QUOTA, "quota: {days: 30}", f"{IDP}.quota.exchanges", "is missing"),
    (QUOTA, "quota: {exchanges: 250}", f"{IDP}.quota.days", "is missing"),
    ("days: 30", "days: 30, hours: 1", f"{IDP}.quota.hours", "is not a known key"),
    ("days: 30", "days: month", f"{IDP}.quota.days", "is not a usable number of days"),
    ("days: 30", "days: 367", f"{IDP}.quota.days", "is not a usable number of days"),
    ("ges: 250", "ges: 0", f"{IDP}.quota.exchanges", "is not a usable number of exchanges"),
    ("ges: 250", "ges: 2.5", f"{IDP}.quota.exchanges", "is not a whole number"),
    ("ges: 250", "ges: 0.5", f"{IDP}.quota.exchanges", "is not a whole number"),
    # listen
    ("unix:/run/mcp-ext-authz/check.sock", "unix:check.sock", "listen", "is not an absolute path"),
    ("unix:/run/mcp-ext-authz/check.sock", "'unix:'", "listen", "is not an absolute path"),
    ("unix:/run/mcp-ext-authz/check.sock", "unix-abstract:x", "listen", "is no address"),
    ("unix:/run/mcp-ext-authz/check.sock", "9191", "listen", "is no address"),
    ("unix:/run/mcp-ext-authz/check.sock", "':9191'", "listen", "is no address"),
    ("unix:/run/mcp-ext-authz/check.sock", "127.0.0.1", "listen", "is no address"),
    ("unix:/run/mcp-ext-authz/check.sock", "127.0.0.1:65536", "listen", "is no address"),
    ("unix:/run/mcp-ext-authz/check.sock", "http://127.0.0.1:9191", "listen", "is no address"),
    ("unix:/run/mcp-ext-authz/check.sock", "0.0.0.0:9191", "listen", "is not a loopback address"),
    ("unix:/run/mcp-ext-authz/check.sock", "'[::]:9191'", "listen", "is not a loopback address"),
    ("unix:/run/mcp-ext-authz/check.sock", "10.0.0.1:9191", "listen", "is not a loopback address"),
    ("unix:/run/mcp-ext-authz/check.sock", "mcp.corp:9191", "listen", "is not a loopback address"),
    ("unix:/run/mcp-ext-authz/check.sock", "[a]", "listen", "is not a text"),
    # identity providers
    ("https://idp.corp.example\n", "http://idp.corp.example\n", f"{IDP}.issuer", NOT_PLAIN),
    ("https://idp.corp.example\n", "idp.corp.example\n", f"{IDP}.issuer", "is not a URL"),
    ("https://idp.corp.example\n", "{}\n", f"{IDP}.issuer", "is not a text"),
    ("[hub, portal]", "[]", f"{IDP}.audience", "is empty"),
    ("[hub, portal]", "hub", f"{IDP}.audience", "is not a list"),
    ("[hub, portal]", "[hub, [portal]]", f"{IDP}.audience[1]", "is not a text"),
    ("access_token", "saml", f"{IDP}.subject_token", "is not one of the choices"),
    ("access_token\n", "[]\n", f"{IDP}.subject_token", "is not a text"),
    ("[ES256, RS256]", "[]", f"{IDP}.algorithms", "names an unusable algorithm"),
    ("[ES256, RS256]", "[ES256, HS256]", f"{IDP}.algorithms", "names an unusable algorithm"),
    ("[ES256, RS256]", "[none]", f"{IDP}.algorithms", "names an unusable algorithm"),
    ("[ES256, RS256]", "ES256", f"{IDP}.algorithms", "is not a list"),
    ("https://idp.corp.example/token", "http://x/t", f"{IDP}.token_endpoint", NOT_PLAIN),
    ("https://idp.corp.example/keys", "x", f"{IDP}.jwks_uri", "is not a URL"),
    ("[openid, email]", "['a b']", f"{IDP}.sign_in_scopes[0]", "is not a scope"),
    ("[openid, email]", "[é]", f"{IDP}.sign_in_scopes[0]", "is not a scope"),
    ("[openid, email]", "openid", f"{IDP}.sign_in_scopes", "is not a list"),
    # clients
    ("id: hub\n", "id: ''\n", f"{IDP}.client.id", "is not a text"),
    ("private_key_jwt", "none", f"{IDP}.client.auth", "is not one of the choices"),
    ("client_secret_basic", "basic", f"{AS}.client.auth", "is not one of the choices"),
    (
        "algorithm: ES256",
        "algorithm: HS256",
        f"{IDP}.client.algorithm",
        "is not one of the choices",
    ),
    ("key_id: hub-1", "key_id: []", f"{IDP}.client.key_id", "is not a text"),
    (
        "assertion_audience: token_endpoint",
        "assertion_audience: client",
        f"{IDP}.client.assertion_audience",
        "is not one of the choices",
    ),
    ("{file: SECRETS/crm}", "s3cr3t", f"{AS}.client.secret", "is not a mapping"),
    ("{file: SECRETS/crm}", "{}", f"{AS}.client.secret", "is not one reference"),
    ("{file: SECRETS/crm}", "{file: ''}", f"{AS}.client.secret.file", "is not a text"),
    (
        "{file: SECRETS/crm}",
        "{file: SECRETS/crm, env: HOME}",
        f"{AS}.client.secret",
        "is not one reference",
    ),
    (
        "{file: SECRETS/crm}",
        "{env: NO_SUCH_VARIABLE}",
        f"{AS}.client.secret",
        "the environment variable NO_SUCH_VARIABLE is not set",
    ),
    # authorization servers
    ("https://auth.crm.corp.example/token", "x", f"{AS}.token_endpoint", "is not a URL"),
    # servers
    ("  crm:\n", "  -crm:\n", "servers.-crm", "is not a usable name"),
    ("  crm:\n", f"  {'c' * 65}:\n", f"servers.{'c' * 65}", "is not a usable name"),
    ("crm.corp.example/mcp", "crm.corp.example/#", "servers.crm.resource", "is not a plain URL"),
    ("https://mcp.corp", "http://mcp.corp", "servers.crm.url", NOT_PLAIN),
    (
        "_server: https://auth.crm.corp.example",
        "_server: https://auth.crm.corp.example/",
        "servers.crm.authorization_server",
        "is no issuer of `authorization_servers`",
    ),
    (
        "[tickets.read, tickets.write]",
        "['b c', a]",
        "servers.crm.scopes[0]",
        "is not a scope",
    ),
    (
        "[tickets.read, tickets.write]",
        "['\"']",
        "servers.crm.scopes[0]",
        "is not a scope",
    ),
    ("[tickets.read, tickets.write]", "[{}]", "servers.crm.scopes[0]", "is not a text"),
    (
        "{host: mcp.corp.example, path_prefix: /crm}",
        "/crm",
        "servers.crm.match",
        "is not a mapping",
    ),
    ("host: mcp.corp.example", "host: []", "servers.crm.match.host", "is not a text"),
    (
        "path_prefix: /crm",
        "path_prefix: crm",
        "servers.crm.match.path_prefix",
        "is not a plain path",
    ),
    (
        "path_prefix: /crm",
        "path_prefix: /crm/",
        "servers.crm.match.path_prefix",
        "is not a plain path",
    ),
    ("path_prefix: /crm", "path_prefix: /", "servers.crm.match.path_prefix", "is not a plain path"),
    (
        "path_prefix: /crm",
        "path_prefix: /a%2f",
        "servers.crm.match.path_prefix",
        "is not a plain path",
    ),
    (
        "path_prefix: /crm",
        "path_prefix: /a/..",
        "servers.crm.match.path_prefix",
        "is not a plain path",
    ),
    # audit
    ("file: /var/log/mcp-ext-authz/audit.jsonl", "file: ['a']", "audit.file", "is not a text"),
    ("file: /var/log/mcp-ext-authz/audit.jsonl", "file:", "audit.file", "is missing"),
    # timeouts
    ("check: 6", "check: 0", "timeouts.check", "is not a usable number of seconds"),
    ("check: 6", "check: 61", "timeouts.check", "is not a usable number of seconds"),
    ("check: 6", "check: -1", "timeouts.check", "is not a usable number of seconds"),
    ("check: 6", "check: 6s", "timeouts.check", "is not a usable number of seconds"),
    ("check: 6", "check: .inf", "timeouts.check", "is not a usable number of seconds"),
    ("check: 6", f"check: {'9' * 400}", "timeouts.check", "is not a usable number of seconds"),
    ("exchange: 5.5", "exchange: []", "timeouts.exchange", "is not a text"),
]


@pytest.mark.parametrize(("old", "new", "key", "problem"), WRONG)
def test_what_is_wrong_is_one_fault_at_its_line(
    write_settings: WriteSettings, old: str, new: str, key: str, problem: str
) -> None:
    file = write_settings(old, new)

    assert faults_of(file) == [(line_in(EVERY_KEY, old), key, problem)]


LISTS = [
    ("identity_providers: {}\n", "is not a list"),
    ("identity_providers: hub\n", "is not a list"),
    ("identity_providers: []\n", "is empty"),
]


@pytest.mark.parametrize(("passage", "problem"), LISTS)
def test_a_list_must_be_one_and_hold_something(
    write_settings: WriteSettings, passage: str, problem: str
) -> None:
    start, end = EVERY_KEY.index("identity_providers"), EVERY_KEY.index("authorization_servers")
    file = write_settings(EVERY_KEY[start:end], passage)

    assert faults_of(file) == [(2, "identity_providers", problem)]


@pytest.mark.parametrize("entry", ["hub", "[]", "null"])
def test_an_entry_that_is_no_mapping_is_a_fault(write_settings: WriteSettings, entry: str) -> None:
    file = write_settings("authorization_servers:\n", f"authorization_servers:\n- {entry}\n")

    assert faults_of(file) == [
        (line_of(file, f"- {entry}"), "authorization_servers[0]", "is not a mapping")
    ]


@pytest.mark.parametrize("servers", ["", " null", " {}"])
def test_the_catalogue_may_be_empty(write_settings: WriteSettings, servers: str) -> None:
    file = write_settings(text=f"{ONLY_WHAT_MUST_BE}servers:{servers}\n")

    assert load_settings(file).servers == {}


@pytest.mark.parametrize(
    ("servers", "key", "problem"),
    [
        ("servers: []", "servers", "is not a mapping"),
        ("servers: {crm: }", "servers.crm", "is missing"),
        ("servers: {crm: []}", "servers.crm", "is not a mapping"),
        ("timeouts: 5", "timeouts", "is not a mapping"),
    ],
)
def test_a_mapping_must_be_one(
    write_settings: WriteSettings, servers: str, key: str, problem: str
) -> None:
    file = write_settings(text=f"{ONLY_WHAT_MUST_BE}{servers}\n")

    assert faults_of(file) == [(line_of(file, servers), key, problem)]


@pytest.mark.parametrize(
    ("section", "key"),
    [(f"client: {CLIENT}", f"{IDP}.client"), ("audit: {file: audit.jsonl}", "audit")],
)
@pytest.mark.parametrize("value", ["text", "[]"])
def test_so_must_a_section_be(
    write_settings: WriteSettings, section: str, key: str, value: str
) -> None:
    name = section.partition(":")[0]
    file = write_settings(section, f"{name}: {value}", text=ONLY_WHAT_MUST_BE)

    assert faults_of(file) == [(line_in(ONLY_WHAT_MUST_BE, section), key, "is not a mapping")]


def test_a_client_must_be_given(write_settings: WriteSettings) -> None:
    file = write_settings(f", client: {CLIENT}", text=ONLY_WHAT_MUST_BE)

    assert faults_of(file) == [(3, f"{IDP}.client", "is missing")]


@pytest.mark.parametrize(
    ("section", "entry"), [("identity_providers", IDP_ENTRY), ("authorization_servers", AS_ENTRY)]
)
def test_an_issuer_that_stands_twice_is_a_fault_at_the_second(
    write_settings: WriteSettings, section: str, entry: str
) -> None:
    file = write_settings(entry, entry + entry, text=ONLY_WHAT_MUST_BE)
    line = line_in(ONLY_WHAT_MUST_BE, entry) + 1

    assert faults_of(file) == [(line, f"{section}[1]", "repeats the issuer of another entry")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("path_prefix: /crm", "path_prefix: /wiki"), "has the url of crm"),
        (("mcp.corp.example/crm/mcp", "mcp.corp.example/wiki/mcp"), "has the match of crm"),
    ],
    ids=["url", "match"],
)
def test_two_servers_at_one_address_are_a_fault_at_the_second(
    write_settings: WriteSettings, change: tuple[str, str], problem: str
) -> None:
    crm = EVERY_KEY[EVERY_KEY.index("  crm:\n") : EVERY_KEY.index("audit:")]
    file = write_settings(crm, crm + crm.replace("  crm:", "  wiki:").replace(*change))

    assert faults_of(file) == [(line_of(file, "  wiki:"), "servers.wiki", problem)]


# ---- keys that nobody knows, or that stand twice

LEVELS = [
    ("listen: unix:/run/mcp-ext-authz/check.sock\n", ""),
    ("- issuer: https://idp.corp.example\n", f"{IDP}."),
    ("    id: hub\n", f"{IDP}.client."),
    ("- issuer: https://auth.crm.corp.example\n", f"{AS}."),
    ("    id: hub-at-crm\n", f"{AS}.client."),
    ("    url: https://mcp.corp.example/crm/mcp\n", "servers.crm."),
    ("  file: /var/log/mcp-ext-authz/audit.jsonl\n", "audit."),
    ("  durability: synced\n", "audit."),
    ("    endpoint: https://collector.corp.example/v1/logs\n", "audit.otlp."),
    ("  check: 6\n", "timeouts."),
]
FLOWS = [
    ("{file: SECRETS/hub.pem", f"{IDP}.client.key."),
    ("{file: SECRETS/crm", f"{AS}.client.secret."),
    ("{host: mcp.corp.example", "servers.crm.match."),
    ("{megabytes: 64", "audit.rotate."),
    ("{records: 500", "audit.checkpoint."),
    ("{file: SECRETS/audit.pem", "audit.signing_key."),
]


def beside(line: str, member: str) -> str:
    """Another member of the mapping that `line` begins or goes on."""
    return " " * (len(line) - len(line.lstrip(" -"))) + member


@pytest.mark.parametrize(("line", "prefix"), LEVELS)
def test_an_unknown_key_is_a_fault_at_every_level(
    write_settings: WriteSettings, line: str, prefix: str
) -> None:
    file = write_settings(line, line + beside(line, "secert:\n") + beside(line, "  deep: x\n"))

    assert faults_of(file) == [
        (line_in(EVERY_KEY, line) + 1, f"{prefix}secert", "is not a known key")
    ]


@pytest.mark.parametrize(("mapping", "prefix"), FLOWS)
def test_an_unknown_key_on_the_same_line_is_a_fault_too(
    write_settings: WriteSettings, mapping: str, prefix: str
) -> None:
    file = write_settings(mapping, f"{mapping}, secert: x")

    assert faults_of(file) == [(line_of(file, "secert"), f"{prefix}secert", "is not a known key")]


@pytest.mark.parametrize(("line", "prefix"), LEVELS)
def test_a_key_that_stands_twice_is_a_fault_at_every_level(
    write_settings: WriteSettings, line: str, prefix: str
) -> None:
    file = write_settings(line, line + beside(line, line.lstrip(" -")))
    name = line.lstrip(" -").partition(":")[0]

    assert faults_of(file) == [(line_in(EVERY_KEY, line) + 1, f"{prefix}{name}", "stands twice")]


@pytest.mark.parametrize(("mapping", "prefix"), FLOWS)
def test_a_key_that_stands_twice_on_one_line_is_one_fault(
    write_settings: WriteSettings, mapping: str, prefix: str
) -> None:
    file = write_settings(mapping, f"{mapping}, {mapping[1:]}")
    name = mapping[1:].partition(":")[0]

    assert faults_of(file) == [(line_in(EVERY_KEY, mapping), f"{prefix}{name}", "stands twice")]


def test_the_fault_of_an_unknown_key_names_the_known_ones(write_settings: WriteSettings) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(write_settings("  check: 6", "  chekc: 6"))

    assert [fault.fix for fault in invalid.value.faults] == ["Known here: call, check, exchange."]


@pytest.mark.parametrize(
    ("auth", "given", "wanted"),
    [("private_key_jwt", "secret", "key"), ("client_secret_post", "key", "secret")],
)
def test_a_credential_of_the_wrong_kind_is_unknown_and_the_right_one_missing(
    write_settings: WriteSettings, auth: str, given: str, wanted: str
) -> None:
    client = f"{{id: hub, auth: {auth}, {given}: {{file: SECRETS/crm}}}}"
    file = write_settings(CLIENT, client, text=ONLY_WHAT_MUST_BE)

    assert set(faults_of(file)) == {
        (3, f"{IDP}.client.{given}", "is not a known key"),
        (3, f"{IDP}.client.{wanted}", "is missing"),
    }


# ---- all of them


def test_every_fault_is_found_at_once_in_the_order_of_the_file(
    write_settings: WriteSettings, credentials: Credentials
) -> None:
    text = EVERY_KEY
    for old, new in [
        ("unix:/run/mcp-ext-authz/check.sock", "0.0.0.0:9191"),
        ("[hub, portal]", "[]"),
        ("access_token", "saml"),
        ("hub.pem", "missing.pem"),
        ("  - issuer", "  - isuer"),
        ("    url:", "    uri:"),
        ("tickets.read, ", "'tickets read', "),
        ("  file: /var", "  path: /var"),
        ("check: 6", "check: six"),
    ]:
        text = text.replace(old, new, 1)
    missing = f"{credentials.folder}/missing.pem"

    assert [(key, problem) for _, key, problem in faults_of(write_settings(text=text))] == [
        ("listen", "is not a loopback address"),
        (f"{IDP}.audience", "is empty"),
        (f"{IDP}.subject_token", "is not one of the choices"),
        (f"{IDP}.client.key", f"cannot read {missing}: No such file or directory"),
        ("servers.crm.url", "is missing"),
        ("servers.crm.uri", "is not a known key"),
        ("servers.crm.scopes[0]", "is not a scope"),
        ("audit.file", "is missing"),
        ("audit.path", "is not a known key"),
        ("timeouts.check", "is not a usable number of seconds"),
    ]


def test_a_faulty_authorization_server_is_no_fault_of_its_servers(
    write_settings: WriteSettings,
) -> None:
    file = write_settings("auth: client_secret_basic", "auth: basic")

    assert faults_of(file) == [
        (line_of(file, "auth: basic"), f"{AS}.client.auth", "is not one of the choices")
    ]


def test_a_fault_never_shows_a_secret(
    write_settings: WriteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-7f3a")
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(write_settings("{file: SECRETS/hub.pem}", "{env: CANARY}"))

    assert "canary-7f3a" not in str(invalid.value)


# ---- Envoy bootstraps


def test_a_fault_in_a_bootstrap_is_at_its_line_and_whole_key(write_settings: WriteSettings) -> None:
    file = write_settings("check.sock", "check.sock\n      lisen: x", text=bootstrap(EVERY_KEY))

    assert faults_of(file) == [
        (line_of(file, "lisen"), "node.metadata.mcp_ext_authz.lisen", "is not a known key")
    ]


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("static_resources: {}", "node", "is missing"),
        ("admin: {}", "node", "is missing"),
        ("node:", "node", "is missing"),
        ("node: []", "node", "is not a mapping"),
        ("node: {id: a}", "node.metadata", "is missing"),
        ("node: {metadata: x}", "node.metadata", "is not a mapping"),
        ("node: {metadata: {}}", "node.metadata.mcp_ext_authz", "is missing"),
        ("node: {metadata: {mcp_ext_authz: x}}", "node.metadata.mcp_ext_authz", "is not a mapping"),
    ],
)
def test_a_bootstrap_without_the_settings_is_a_fault(
    write_settings: WriteSettings, text: str, key: str, problem: str
) -> None:
    assert faults_of(write_settings(text=text)) == [(1, key, problem)]


@given(st.data())
def test_whatever_becomes_of_the_file_it_is_read_or_its_faults_are_given(
    data: st.DataObject,
) -> None:
    text = data.draw(st.sampled_from([EVERY_KEY, ONLY_WHAT_MUST_BE, bootstrap(EVERY_KEY)]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 30, len(text))))
    noise = data.draw(st.text("ab0: \n-[]{}\"'&*!\\u", max_size=6) | st.text(max_size=3))
    spoilt = text[:start] + noise + text[end:]
    try:
        read_settings(
            settings_of(parse_yaml(spoilt.encode(errors="surrogatepass"), Faults("settings.yaml")))
        )
    except SettingsInvalid as invalid:
        assert str(invalid)  # noqa: PT017 - either outcome is fine
