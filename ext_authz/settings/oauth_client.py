"""Reads a `client:` mapping: our registration at an identity provider or authorization server."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ext_authz.secret import Secret
from ext_authz.settings.private_key import private_key
from ext_authz.settings.secret_reference import NO_SOURCE, read_secret, read_source
from ext_authz.settings.settings import AssertionAudience, AuthMethod, OAuthClient
from ext_authz.settings.yaml_cursor import Cursor

KEY_TYPES: Final[dict[str, type]] = {
    "ES256": ec.EllipticCurvePrivateKey,
    "EdDSA": ed25519.Ed25519PrivateKey,
    "RS256": rsa.RSAPrivateKey,
}
_MIN_RSA_BITS: Final = 2048
_NOBODY: Final = OAuthClient(
    id="",
    auth=AuthMethod.CLIENT_SECRET_BASIC,
    credential=NO_SOURCE,
    algorithm="",
    key_id=None,
    assertion_audience=AssertionAudience.ISSUER,
)


def read_client(item: Cursor) -> OAuthClient:
    """The client under `item`; faults are noted at their keys and a placeholder takes their place."""
    member = item.need("client", "Give our registration there: {id: …, auth: …, secret: …}.")
    if member is None or not member.is_mapping():
        return _NOBODY
    client_id = member.need("id", "Give the client_id that we were registered under.")
    auth = _auth(member)
    name = "key" if auth is AuthMethod.PRIVATE_KEY_JWT else "secret"
    reference = member.need(name, "Refer to it: {env: NAME} or {file: /path}.")
    source = read_source(reference) if reference else NO_SOURCE
    client = OAuthClient(
        id=client_id.text() if client_id else "",
        auth=auth,
        credential=source,
        algorithm=_algorithm(member) if name == "key" else "",
        key_id=_text(member, "key_id") if name == "key" else None,
        assertion_audience=_audience(member) if name == "key" else AssertionAudience.ISSUER,
    )
    member.refuse_unknown()
    secret = read_secret(reference, source) if reference else None
    if reference and secret and client.auth is AuthMethod.PRIVATE_KEY_JWT:
        _check_key(reference, secret, client.algorithm)
    return client


def _auth(member: Cursor) -> AuthMethod:
    auth = member.need("auth", f"Use of: {', '.join(AuthMethod)}.")
    # Where it is not said, what is given tells: one fault must not look like five.
    has_key = "key" in member.names()
    default = AuthMethod.PRIVATE_KEY_JWT if has_key else AuthMethod.CLIENT_SECRET_BASIC
    return auth.choice(AuthMethod, default) if auth else default


def _text(member: Cursor, name: str) -> str | None:
    value = member.get(name)
    return value.text() if value else None


def _algorithm(member: Cursor) -> str:
    value = member.get("algorithm")
    text = value.text() if value else "ES256"
    if value and text not in KEY_TYPES:
        value.fault("is not one of the choices", f"Use of: {', '.join(KEY_TYPES)}.")
        return "ES256"
    return text


def _audience(member: Cursor) -> AssertionAudience:
    value = member.get("assertion_audience")
    default = AssertionAudience.ISSUER
    return value.choice(AssertionAudience, default) if value else default


def _check_key(reference: Cursor, secret: Secret, algorithm: str) -> None:
    try:
        key = private_key(secret)
    except ValueError:
        reference.fault("is not an unencrypted PEM private key", "Use a PKCS#8 PEM file.")
        return
    other_curve = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name != "secp256r1"
    if not isinstance(key, KEY_TYPES[algorithm]) or other_curve:
        reference.fault(f"is not a key for {algorithm}", "Change the key or `algorithm`.")
    elif isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MIN_RSA_BITS:
        reference.fault("is a weak RSA key", f"Use at least {_MIN_RSA_BITS} bits.")
