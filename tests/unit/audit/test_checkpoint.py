"""The audit's signing key: an Ed25519 key, or none."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ext_authz.audit.chain import Head
from ext_authz.audit.checkpoint import (
    NotASigningKey,
    Signer,
    Statement,
    is_signed,
    key_id,
    read_public_key,
)
from tests.unit.settings.credentials import pem

KEY = Ed25519PrivateKey.generate()
OTHER_KIND = ec.generate_private_key(ec.SECP256R1())
STATEMENT = Statement(Head("0" * 32, 7, "1" * 64), 1_795_000_000_000)


def public_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("text", ["", "no key", pem(OTHER_KIND), public_pem(KEY).decode()])
def test_only_a_private_ed25519_key_signs(text: str) -> None:
    with pytest.raises(NotASigningKey):
        Signer(text)


@pytest.mark.parametrize("text", [b"", b"no key", b"\xff", public_pem(OTHER_KIND)])
def test_only_an_ed25519_key_verifies(text: bytes) -> None:
    with pytest.raises(NotASigningKey):
        read_public_key(text)


@pytest.mark.parametrize("text", [public_pem(KEY), pem(KEY).encode()], ids=["public", "private"])
def test_either_half_says_which_key_it_is(text: bytes) -> None:
    assert key_id(read_public_key(text)) == Signer(pem(KEY)).key_id


def test_a_signature_is_of_its_key_and_its_statement() -> None:
    signature = Signer(pem(KEY)).sign(STATEMENT)
    later = Statement(STATEMENT.head, STATEMENT.time + 1)

    assert is_signed(STATEMENT, signature, KEY.public_key())
    assert not is_signed(later, signature, KEY.public_key())
    assert not is_signed(STATEMENT, signature, Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize("signature", ["", "a", "é", "A" * 86])
def test_what_is_no_signature_proves_nothing(signature: str) -> None:
    assert not is_signed(STATEMENT, signature, KEY.public_key())
