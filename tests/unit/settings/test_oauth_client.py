"""Our key at an issuer: of the kind that its algorithm needs, or a fault at the start."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ext_authz.settings.load import load_settings
from ext_authz.settings.yaml_cursor import SettingsInvalid
from tests.unit.settings.conftest import WriteSettings
from tests.unit.settings.credentials import Credentials, pem

# openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime192v3
UNKNOWN_CURVE = """\
-----BEGIN PRIVATE KEY-----
MG8CAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQMEVTBTAgEBBBi9dWiznXGznMP6TQzK
8p5D31EXpVhzTWOhNAMyAASAMJEZdPMhAw0hfQB5msoFVX0e0AO2tdsK37VXnEuB
83EGxMvr3bP+iW9rbmmeuhQ=
-----END PRIVATE KEY-----
"""


def p256() -> str:
    return pem(ec.generate_private_key(ec.SECP256R1()))


def p384() -> str:
    return pem(ec.generate_private_key(ec.SECP384R1()))


def k256() -> str:
    return pem(ec.generate_private_key(ec.SECP256K1()))


def ed() -> str:
    return pem(ed25519.Ed25519PrivateKey.generate())


def ed_448() -> str:
    return pem(ed448.Ed448PrivateKey.generate())


def rsa_2048() -> str:
    return pem(rsa.generate_private_key(65537, 2048))


def rsa_1024() -> str:
    return pem(rsa.generate_private_key(65537, 1024))


def faults_of(file: str) -> list[tuple[str, str]]:
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings(file)
    return [(fault.key, fault.problem) for fault in invalid.value.faults]


@pytest.fixture
def with_key(write_settings: WriteSettings, credentials: Credentials) -> Callable[[str, str], str]:
    """The settings file, for an algorithm and with a text in the place of the key."""

    def write(algorithm: str, text: str) -> str:
        credentials.write("hub.pem", text)
        return write_settings("algorithm: ES256", f"algorithm: {algorithm}")

    return write


@pytest.mark.parametrize(
    ("algorithm", "key"), [("ES256", p256), ("RS256", rsa_2048), ("EdDSA", ed)]
)
def test_a_key_of_the_right_kind_is_accepted(
    with_key: Callable[[str, str], str], algorithm: str, key: Callable[[], str]
) -> None:
    settings = load_settings(with_key(algorithm, key()))

    assert settings.identity_providers["https://idp.corp.example"].client.algorithm == algorithm


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES256", rsa_2048),
        ("ES256", ed),
        ("ES256", p384),
        ("ES256", k256),
        ("RS256", p256),
        ("RS256", ed),
        ("EdDSA", p256),
        ("EdDSA", ed_448),
        ("EdDSA", rsa_2048),
    ],
)
def test_a_key_of_another_kind_is_a_fault(
    with_key: Callable[[str, str], str], algorithm: str, key: Callable[[], str]
) -> None:
    assert faults_of(with_key(algorithm, key())) == [
        ("identity_providers[0].client.key", f"is not a key for {algorithm}")
    ]


def test_a_weak_rsa_key_is_a_fault(with_key: Callable[[str, str], str]) -> None:
    assert faults_of(with_key("RS256", rsa_1024())) == [
        ("identity_providers[0].client.key", "is a weak RSA key")
    ]


def public_key() -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def locked_key() -> str:
    return pem(ec.generate_private_key(ec.SECP256R1()), password=b"x")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("s3cr3t", id="a password"),
        pytest.param("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", id="garbage"),
        pytest.param(UNKNOWN_CURVE, id="a curve that nobody uses"),
        pytest.param(public_key(), id="a public key"),
        pytest.param(locked_key(), id="a locked key"),
    ],
)
def test_what_is_no_readable_private_key_is_a_fault(
    with_key: Callable[[str, str], str], text: str
) -> None:
    assert faults_of(with_key("ES256", text)) == [
        ("identity_providers[0].client.key", "is not an unencrypted PEM private key")
    ]


def test_a_key_that_cannot_be_read_is_a_fault(
    write_settings: WriteSettings, credentials: Credentials
) -> None:
    file = write_settings()
    (credentials.folder / "hub.pem").chmod(0o444)
    [(key, problem)] = faults_of(file)

    assert key == "identity_providers[0].client.key"
    assert "is open to others (mode 0444)" in problem
