"""Key sets of issuers: only public signature keys come out, and a bad one never costs a good one."""

from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from ext_authz.identity.issuer_keys import MAX_KEYS, _usable_keys
from ext_authz.strict_json import NotStrictJson, parse_object

GOOD: Final[dict[str, object]] = {
    "kid": "the good one",
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",  # RFC 7515 appendix A.3
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


def one_input(data: bytes) -> None:
    try:
        members = parse_object(data).get("keys")
    except NotStrictJson:
        return
    listed = members if isinstance(members, list) else []
    keys = _usable_keys([*listed[: MAX_KEYS - 1], GOOD])
    assert GOOD["kid"] in keys
    for key in keys.values():
        _assert_usable(key)


def _assert_usable(key: jwt.PyJWK) -> None:
    match key.key:
        case rsa.RSAPublicKey():
            assert key.key.key_size >= 2048
            assert key.algorithm_name[:2] in {"RS", "PS"}
        case ec.EllipticCurvePublicKey():
            assert key.algorithm_name[:2] == "ES"
        case _:
            assert isinstance(key.key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
            assert key.algorithm_name == "EdDSA"
