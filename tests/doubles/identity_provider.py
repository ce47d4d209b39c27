"""An identity provider that does whatever a test needs it to do wrong."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from ext_authz.settings.settings import IdentityProvider as Registration
from ext_authz.settings.settings import SubjectToken
from tests.doubles.loopback import Endpoint, Loopback, Received
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import HUB, HUB_AT_SERVER
from tests.doubles.signing_keys import Jwk, SigningKey, signing_key
from tests.doubles.tokens import ABSENT, changed, claims_of, compact, header_of, id_token

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


class IdentityProvider:
    """One issuer: metadata, keys, and a token endpoint that gives an ID-JAG to whoever asks.

    `keys` signs with its last and publishes them all, unless `published` says otherwise.
    `id_jag` and `id_jag_header` change what an ID-JAG says; `raw_id_jag` takes its place.
    """

    def __init__(self, time: MovableTime, *, key: SigningKey | None = None) -> None:
        self._time = time
        self.keys = [key or signing_key()]
        self.published: list[object] | None = None
        self.id_jag: dict[str, object] = {}
        self.id_jag_header: dict[str, object] = {}
        self.raw_id_jag: str | None = None
        self.issued: list[str] = []
        self.metadata = Endpoint(self._metadata)
        self.jwks = Endpoint(self._jwks)
        self.token = Endpoint(self._exchange)
        self.server = Loopback(
            {
                "/.well-known/openid-configuration": self.metadata,
                "/jwks": self.jwks,
                "/token": self.token,
            }
        )

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.__aexit__()

    @property
    def issuer(self) -> str:
        return self.server.origin

    @property
    def key(self) -> SigningKey:
        return self.keys[-1]

    def rotate(self, key: SigningKey, *, drop: bool = False) -> None:
        """Signs with `key` from now on; with `drop` the older keys are gone at once."""
        self.keys = [key] if drop else [*self.keys, key]

    def registration(self, **changes: Any) -> Registration:
        """How the settings name this identity provider."""
        registration = Registration(
            issuer=self.issuer,
            audience=("hub",),
            subject_token=SubjectToken.ID_TOKEN,
            algorithms=("ES256", "ES384", "ES512", "EdDSA", "PS256", "RS256"),
            client=HUB,
            token_endpoint=None,
            jwks_uri=None,
            sign_in_scopes=("openid",),
        )
        return replace(registration, **changes)

    def sign_in(self, header: Mapping[str, object] | None = None, /, **changes: object) -> str:
        """An ID token of now, for alice unless `changes` say otherwise."""
        return id_token(self.key, self.issuer, self._time.now, header, **changes)

    def _metadata(self, _request: Received) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
        }

    def _jwks(self, _request: Received) -> dict[str, object]:
        keys: list[Jwk] = [key.jwk() for key in self.keys]
        return {"keys": keys if self.published is None else self.published}

    def _exchange(self, request: Received) -> dict[str, object]:
        form = request.form
        token = self.raw_id_jag or self._id_jag(form)
        self.issued.append(token)
        answer: dict[str, object] = {
            "issued_token_type": ID_JAG,
            "access_token": token,
            "token_type": "N_A",
            "expires_in": 300,
        }
        return changed(answer, {"scope": form.get("scope", ABSENT)})

    def _id_jag(self, form: Mapping[str, str]) -> str:
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": claims_of(form["subject_token"])["sub"],
            "aud": form["audience"],
            "client_id": HUB_AT_SERVER.id,
            "resource": form["resource"],
            "scope": form.get("scope", ABSENT),
            "jti": str(uuid.uuid4()),
            "iat": self._time.now,
            "exp": self._time.now + 300,
        }
        header = header_of(self.key, **{"typ": "oauth-id-jag+jwt", **self.id_jag_header})
        return compact(header, changed(claims, self.id_jag), self.key.sign)
