"""Two identity providers, two authorization servers and the network to them, simulated.

They answer as real ones would, late, with really signed tokens, or in whatever way a `Dial` says. An
access token states whose it is and for what, so that whoever holds one can be told who ought to.
"""

import asyncio
import base64
import json
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

import jwt

from ext_authz.outbound import Outbound, OutboundError, Reply
from ext_authz.settings.settings import AuthorizationServer as AuthorizationServerSettings
from ext_authz.settings.settings import IdentityProvider as IdentityProviderSettings
from ext_authz.settings.settings import McpServer, Settings, SubjectToken, Timeouts
from tests.abuse.virtual_time import Clocks
from tests.doubles.audit_settings import quiet
from tests.doubles.loopback import Dial, Endpoint, Received, Refusal
from tests.doubles.registrations import HUB, HUB_AT_SERVER
from tests.doubles.signing_keys import SigningKey, signing_key
from tests.doubles.tokens import claims_of, compact, header_of

CALL_SECONDS: Final = 3
EXCHANGE_SECONDS: Final = 4
CHECK_SECONDS: Final = 5
ON_THE_WAY: Final = 0.05  # seconds, to a provider and back from it
AGENTS: Final = ("desktop", "cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody signed in: a user of one identity provider, in one session, at one agent."""

    issuer: str
    subject: str
    session: str
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserToken:
    """What a person got when they signed in, or what somebody forged."""

    text: str
    person: Person
    expires: float
    key: tuple[str, str]
    is_genuine: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What an access token states: for whom it was issued, and for which server."""

    person: Person
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdJag:
    """What its `jti` stands for."""

    person: Person
    issued: float


class IdentityProvider:
    """One issuer of user tokens and ID-JAGs."""

    def __init__(self, name: str, clocks: Clocks) -> None:
        self.issuer = f"https://{name}.corp.example"
        self._name = name
        self._clocks = clocks
        self._turns = 0
        self.keys = [self._new_key()]
        self.disabled: set[str] = set()
        self.signed_in: dict[str, UserToken] = {}
        self.id_jags: dict[str, IdJag] = {}
        self.metadata = Endpoint(self._metadata)
        self.jwks = Endpoint(lambda _: {"keys": [key.jwk() for key in self.keys]})
        self.token = Endpoint(self._exchange)

    def settings(self) -> IdentityProviderSettings:
        return IdentityProviderSettings(
            issuer=self.issuer,
            audience=AGENTS,
            subject_token=SubjectToken.ID_TOKEN,
            algorithms=("ES256",),
            client=HUB,
            token_endpoint=None,
            jwks_uri=None,
            sign_in_scopes=(),
        )

    def sign_in(self, person: Person, seconds: int) -> UserToken:
        token = self.signed(person, seconds, self.keys[-1])
        self.signed_in[token.text] = token
        return token

    def signed(
        self, person: Person, seconds: int, key: SigningKey, *, is_genuine: bool = True
    ) -> UserToken:
        now = int(self._clocks.true_wall())
        claims = {
            "iss": person.issuer,
            "sub": person.subject,
            "sid": person.session,
            "aud": person.agent,
            "azp": person.agent,
            "iat": min(now, now + seconds - 1),
            "exp": now + seconds,
            "jti": str(uuid.uuid4()),
        }
        return UserToken(
            text=compact(header_of(key), claims, key.sign),
            person=person,
            expires=now + seconds,
            key=key_name(key.jwk()),
            is_genuine=is_genuine,
        )

    def rotate(self, *, drop: bool) -> None:
        """A new key, under a `kid` that others use too; with `drop` the older ones are gone."""
        self._turns += 1
        self.keys = [self._new_key()] if drop else [*self.keys, self._new_key()]

    def _new_key(self) -> SigningKey:
        private = signing_key("ES256", f"{self._name}-{self._turns}").private
        return SigningKey(key_id=f"key-{self._turns}", algorithm="ES256", private=private)

    def _metadata(self, _request: Received) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
        }

    def _exchange(self, request: Received) -> dict[str, object]:
        form = request.form
        user_token = self.signed_in.get(form["subject_token"])
        if user_token is None or user_token.expires <= self._clocks.true_wall():
            raise Refusal("invalid_grant")
        if user_token.person.subject in self.disabled:
            raise Refusal("invalid_grant")
        return {
            "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag",
            "access_token": self._id_jag(user_token.person, form),
            "token_type": "N_A",
            "scope": form["scope"],
        }

    def _id_jag(self, person: Person, form: Mapping[str, str]) -> str:
        jti = str(uuid.uuid4())
        self.id_jags[jti] = IdJag(person=person, issued=self._clocks.true_wall())
        now = int(self._clocks.true_wall())
        claims = {
            "iss": self.issuer,
            "sub": person.subject,
            "aud": form["audience"],
            "client_id": HUB_AT_SERVER.id,
            "resource": form["resource"],
            "scope": form["scope"],
            "jti": jti,
            "iat": now,
            "exp": now + 300,
        }
        key = self.keys[-1]
        return compact(header_of(key, typ="oauth-id-jag+jwt"), claims, key.sign)


class AuthorizationServer:
    """One issuer of access tokens: trusts both identity providers, redeems an ID-JAG once."""

    def __init__(self, name: str, providers: Iterable[IdentityProvider], clocks: Clocks) -> None:
        self.issuer = f"https://{name}.corp.example"
        self.lifetime = 600
        self._providers = {provider.issuer: provider for provider in providers}
        self._clocks = clocks
        self._redeemed: set[str] = set()
        self.metadata = Endpoint(
            lambda _: {"issuer": self.issuer, "token_endpoint": f"{self.issuer}/token"}
        )
        self.token = Endpoint(self._redeem)

    def settings(self) -> AuthorizationServerSettings:
        return AuthorizationServerSettings(
            issuer=self.issuer, client=HUB_AT_SERVER, token_endpoint=None
        )

    def _redeem(self, request: Received) -> dict[str, object]:
        claims = self._verified(request.form["assertion"])
        if claims["jti"] in self._redeemed or claims["exp"] <= self._clocks.true_wall():
            raise Refusal("invalid_grant")
        if request.form["resource"] != claims["resource"]:
            raise Refusal("invalid_target")
        self._redeemed.add(claims["jti"])
        person = self._providers[claims["iss"]].id_jags[claims["jti"]].person
        return {
            "access_token": _stamped(Stamp(person=person, resource=claims["resource"])),
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "scope": claims["scope"],
        }

    def _verified(self, id_jag: str) -> dict[str, Any]:
        provider = self._providers[claims_of(id_jag)["iss"]]
        for key in provider.keys:
            try:
                return jwt.decode(
                    id_jag,
                    key.private.public_key(),
                    algorithms=["ES256"],
                    audience=self.issuer,
                    options={"verify_exp": False, "verify_iat": False},
                )
            except jwt.InvalidSignatureError:
                continue
        raise Refusal("invalid_grant")


def _stamped(stamp: Stamp) -> str:
    """An access token that says of itself whose it is, and is like no other."""
    text = json.dumps({**asdict(stamp), "nonce": str(uuid.uuid4())})
    return base64.urlsafe_b64encode(text.encode()).decode()


def stamp_of(access_token: str) -> Stamp:
    members = json.loads(base64.urlsafe_b64decode(access_token))
    return Stamp(person=Person(**members["person"]), resource=members["resource"])


def key_name(jwk: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a published key from every other: names are used twice."""
    return jwk["kid"], jwk["x"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """When something arrived, by the machine's two clocks, and how long it is good for."""

    wall: float
    monotonic: float
    lifetime: float = math.inf


class World(Outbound):
    """Everything beyond the service. As its `Outbound`, this is the only way there."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self.providers = [IdentityProvider(name, clocks) for name in ("idp-a", "idp-b")]
        self.authorization_servers = [
            AuthorizationServer(name, self.providers, clocks) for name in ("auth-x", "auth-y")
        ]
        self.under_way: Counter[tuple[Person, str]] = Counter()
        self.twice_at_once: list[tuple[Person, str]] = []
        self.seconds_of_exchanges = 0.0  # the longest, from the ID-JAG to the access token
        self.tokens_delivered: dict[str, Delivery] = {}
        self.keys_delivered: dict[str, list[tuple[Delivery, set[tuple[str, str]]]]] = {
            provider.issuer: [] for provider in self.providers
        }
        self.endpoints = dict(self._endpoints())

    def provider_of(self, person: Person) -> IdentityProvider:
        """Where they sign in."""
        return next(each for each in self.providers if each.issuer == person.issuer)

    def settings(self, audit_file: str) -> Settings:
        """Three servers; two of them share an authorization server."""
        x, y = (server.settings() for server in self.authorization_servers)
        servers = {name: _server(name, auth) for name, auth in (("crm", x), ("wiki", x), ("hr", y))}
        return Settings(
            listen="",
            identity_providers=MappingProxyType(
                {provider.issuer: provider.settings() for provider in self.providers}
            ),
            authorization_servers=MappingProxyType({x.issuer: x, y.issuer: y}),
            servers=MappingProxyType(servers),
            audit=quiet(audit_file),
            timeouts=Timeouts(check=CHECK_SECONDS, exchange=EXCHANGE_SECONDS, call=CALL_SECONDS),
        )

    async def get(self, url: str) -> Reply:
        reply = await self._in_time(url, Received(method="GET", path=url, headers={}, body=b""))
        for provider in self.providers:
            if url == f"{provider.issuer}/jwks" and (keys := _published(reply)):
                self.keys_delivered[provider.issuer].append((self._now(), keys))
        return reply

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply:
        received = Received(method="POST", path=url, headers=headers, body=urlencode(form).encode())
        with self._exchange_under_way(form):
            reply = await self._in_time(url, received)
        if "assertion" in form and "access_token" in (answer := _members(reply)):
            delivery = replace(self._now(), lifetime=answer["expires_in"])
            self.tokens_delivered[answer["access_token"]] = delivery
            took = self._clocks.true_wall() - self._id_jag(form["assertion"]).issued
            self.seconds_of_exchanges = max(self.seconds_of_exchanges, took)
        return reply

    def mend(self) -> None:
        """Nobody has any trouble any more."""
        for endpoint in self.endpoints.values():
            endpoint.dial = Dial()
            endpoint.next.clear()
        for provider in self.providers:
            provider.disabled.clear()

    async def _in_time(self, url: str, received: Received) -> Reply:
        endpoint = self.endpoints.get(url)
        if endpoint is None:
            return Reply(status=404, body=b"")
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._answer(endpoint, received)
        except TimeoutError:
            raise OutboundError("timed out") from None

    async def _answer(self, endpoint: Endpoint, received: Received) -> Reply:
        dial = endpoint.take(received)
        await asyncio.sleep(ON_THE_WAY)
        status, body = endpoint.answer(received, dial)
        await asyncio.sleep(ON_THE_WAY + dial.delay)
        if dial.cut:
            raise OutboundError("broken answer")
        retry_after = dial.headers.get("retry-after")
        return Reply(
            status=status, body=body, retry_after=int(retry_after) if retry_after else None
        )

    @contextmanager
    def _exchange_under_way(self, form: Mapping[str, str]) -> Iterator[None]:
        if "assertion" in form:
            person = self._id_jag(form["assertion"]).person
        else:
            person = _person(claims_of(form["subject_token"]))
        key = (person, form["resource"])
        self.under_way[key] += 1
        if self.under_way[key] > 1:
            self.twice_at_once.append(key)
        try:
            yield
        finally:
            self.under_way[key] -= 1

    def _id_jag(self, text: str) -> IdJag:
        claims = claims_of(text)
        (provider,) = (each for each in self.providers if each.issuer == claims["iss"])
        return provider.id_jags[claims["jti"]]

    def _now(self) -> Delivery:
        return Delivery(wall=self._clocks.wall(), monotonic=self._clocks.monotonic())

    def _endpoints(self) -> Iterator[tuple[str, Endpoint]]:
        for provider in self.providers:
            yield f"{provider.issuer}/.well-known/openid-configuration", provider.metadata
            yield f"{provider.issuer}/jwks", provider.jwks
            yield f"{provider.issuer}/token", provider.token
        for server in self.authorization_servers:
            yield f"{server.issuer}/.well-known/oauth-authorization-server", server.metadata
            yield f"{server.issuer}/token", server.token


def _server(name: str, authorization_server: AuthorizationServerSettings) -> McpServer:
    return McpServer(
        name=name,
        url=f"https://mcp.corp.example/{name}",
        resource=f"https://{name}.corp.example/mcp",
        authorization_server=authorization_server,
        scopes=("read",),
    )


def _person(claims: Mapping[str, str]) -> Person:
    return Person(
        issuer=claims["iss"], subject=claims["sub"], session=claims["sid"], agent=claims["azp"]
    )


def _members(reply: Reply) -> dict[str, Any]:
    try:
        members = json.loads(reply.body)
    except ValueError:
        return {}
    return members if reply.status == 200 and isinstance(members, dict) else {}


def _published(reply: Reply) -> set[tuple[str, str]]:
    """The usable keys of an answer; with none the service goes on with those it has."""
    keys = _members(reply).get("keys")
    known = keys[:100] if isinstance(keys, list) else []
    return {key_name(key) for key in known if "x" in key}
