"""A service in a process of its own, taken through every outcome it knows, and all that it lets out.

It logs all that it and its libraries can, in Python's development mode; `inside/sitecustomize.py`
has it show what it has in memory, fail where it cannot, and crash.
"""

import asyncio
import contextlib
import json
import os
import signal
import time as real_time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from ext_authz._protos.external_auth_pb2 import CheckRequest
from ext_authz.reasons import Reason
from tests.abuse import envoys_view
from tests.abuse.marks import Marks
from tests.abuse.service_process import Service
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Dial
from tests.doubles.movable_time import MovableTime
from tests.doubles.signing_keys import signing_key
from tests.doubles.tokens import ABSENT
from tests.unit.check_requests import check_request

SECONDS: Final = {"check": 8, "exchange": 6, "call": 5}


def mark(of: str) -> str:
    return f"mark-of-{of}-{uuid.uuid4().hex}"


CLIENT_SECRET: Final = mark("our-client") + "/+%=&"
PROVIDERS_WORDS: Final = mark("a-provider")
PROVIDERS_COOKIE: Final = mark("a-providers-cookie")
ARGUMENT: Final = mark("a-tools-argument")
COOKIE: Final = mark("a-cookie")
QUERY: Final = mark("a-query")
CLAIM: Final = mark("a-claim")
ACCESS_TOKEN: Final = mark("an-access-token")
REFRESH_TOKEN: Final = mark("a-refresh-token")
PRIVATE_KEY: Final = signing_key("ES256", "our client's").private_pem()


HEADERS: Final = {
    "www-authenticate": f'Bearer error_description="{PROVIDERS_WORDS}"',
    "set-cookie": f"session={PROVIDERS_COOKIE}",
}
SECRETS: Final = {
    "client secret": CLIENT_SECRET,
    "private key": PRIVATE_KEY.partition("\n")[2].rpartition("\n-----END")[0],
    "provider's words": PROVIDERS_WORDS,
    "provider's cookie": PROVIDERS_COOKIE,
    "argument": ARGUMENT,
    "cookie": COOKIE,
    "query": QUERY,
    "claim": CLAIM,
    "access token": ACCESS_TOKEN,
    "refresh token": REFRESH_TOKEN,
}


def refusing(code: str, status: int = 400) -> Dial:
    words = {
        "error_description": PROVIDERS_WORDS,
        "error_uri": f"https://{PROVIDERS_WORDS}.example",
    }
    return Dial(error=code, status=status, members=words, headers=HEADERS)


def failing(status: int) -> Dial:
    html = f"<html><body><h1>{PROVIDERS_WORDS}</h1></body></html>"
    return Dial(status=status, body=html.encode(), headers=HEADERS)


# ---- how each reason comes about

REQUESTS: Final[dict[Reason, dict[str, Any]]] = {
    Reason.REQUEST_MALFORMED: {"path": "no-slash"},
    Reason.HTTP_METHOD_REFUSED: {"method": "PUT"},
    Reason.SERVER_UNKNOWN: {"server": "nobody"},
    Reason.MESSAGE_MALFORMED: {"body": f'{{"id": 1, "id": "{ARGUMENT}"}}'},
    Reason.MESSAGE_HEADER_MISMATCH: {"headers": {"mcp-method": "tools/list"}},
    Reason.TOKEN_MISSING: {"token": ""},
    Reason.TOKEN_ISSUER_UNKNOWN: {"claims": {"iss": "https://idp.other.example"}},
    Reason.TOKEN_SIGNATURE_INVALID: {"token_header": {"kid": "nobody's"}},
    Reason.TOKEN_EXPIRED: {"claims": {"iat": 1_700_000_000, "exp": 1_700_000_060}},
    Reason.TOKEN_AUDIENCE_WRONG: {"claims": {"aud": "another-client"}},
    Reason.TOKEN_CLAIMS_INVALID: {"claims": {"sid": 7}},
    Reason.INTERNAL: {"headers": {"x-fail": "now"}},
    Reason.AS_METADATA_INVALID: {"server": "strange"},
    Reason.DEADLINE_EXCEEDED: {"server": "slow"},
}
LEG_1: Final[dict[Reason, Dial]] = {
    Reason.SUBJECT_TOKEN_REFUSED: refusing("invalid_grant"),
    Reason.STEP_UP_REQUIRED: refusing("insufficient_user_authentication"),
    Reason.POLICY_DENIED: refusing("access_denied", 403),
    Reason.SCOPE_DENIED: refusing("invalid_scope"),
    Reason.HUB_CLIENT_REFUSED: refusing("invalid_client", 401),
    Reason.IDP_UNAVAILABLE: failing(500),
    Reason.IDP_RATE_LIMITED: failing(429),
    Reason.IDP_ANSWER_INVALID: failing(200),
}
LEG_2: Final[dict[Reason, Dial]] = {
    Reason.ID_JAG_REFUSED: refusing("invalid_grant"),
    Reason.RESOURCE_REFUSED: refusing("invalid_target"),
    Reason.USER_NOT_PROVISIONED: refusing("access_denied"),
    Reason.SERVER_CLIENT_REFUSED: refusing("invalid_client", 401),
    Reason.AS_UNAVAILABLE: failing(503),
    Reason.AS_RATE_LIMITED: failing(429),
    Reason.AS_ANSWER_INVALID: Dial(members={"access_token": ACCESS_TOKEN, "token_type": "DPoP"}),
}
GIVING: Final = Dial(
    members={"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "id_token": ABSENT}
)


@dataclass(slots=True, kw_only=True)
class Heard:
    """Everything that came out anywhere, and what must not be in it."""

    marks: Marks = field(default_factory=Marks)
    answers: dict[str, bytes] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    audit: bytes = b""
    output: bytes = b""
    log: bytes = b""
    crash: bytes = b""
    memory: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    wire: bytes = b""


class Eavesdropper:
    """The users and providers of one service, who tell it secrets, and listen."""

    def __init__(self) -> None:
        time = MovableTime(wall=real_time.time())
        self._idp = IdentityProvider(time)
        self._idp.id_jag = {"email": CLAIM}
        self._dark_idp = IdentityProvider(time, key=signing_key("ES256", "in the dark"))
        self._dark_idp.jwks.dial = failing(500)
        self._auth = AuthorizationServer(self._idp, time)
        self._auth.token.dial = GIVING
        self._slow_auth = AuthorizationServer(self._idp, time)
        self._slow_auth.metadata.dial = self._slow_auth.token.dial = Dial(delay=3.5)
        self._strange_auth = AuthorizationServer(self._idp, time)
        self._strange_auth.metadata.dial = Dial(members={"issuer": PROVIDERS_WORDS})
        self._user_tokens: list[str] = []
        self.heard = Heard()

    async def listen(self, folder: Path) -> Heard:
        async with AsyncExitStack() as doubles:
            for idp in (self._idp, self._dark_idp):
                await doubles.enter_async_context(idp)
            for authorization_server in self._authorization_servers().values():
                await doubles.enter_async_context(authorization_server)
            await self._to_a_service(folder / "a")
            await self._to_one_with_a_full_disk(folder / "b")
            await self._to_one_with_a_hanging_disk(folder / "c")
        self._know_the_secrets()
        return self.heard

    async def _to_a_service(self, folder: Path) -> None:
        audit_file = folder / "home" / "audit.jsonl"
        service = self._service(folder, audit_file)
        async with service.running() as self._stub:
            slow = asyncio.create_task(self._hear(Reason.DEADLINE_EXCEEDED))
            await self._slow_auth.metadata.called.wait()
            for reason in [*REQUESTS, *LEG_1, *LEG_2]:
                if reason is not Reason.DEADLINE_EXCEEDED:
                    await self._hear(reason)
            await self._hear_the_others()
            await slow
            async with self._two_under_way():
                await service.shows_its_memory()
                await service.lets_exceptions_loose()
            await service.shows_its_memory()
            before = len(service.log)
            async with self._two_under_way():
                assert await service.ends(signal.SIGABRT) == -signal.SIGABRT
            self.heard.crash = service.log[before:]
        self.heard.audit = audit_file.read_bytes()
        self.heard.memory = service.memory
        self._take_down(service)

    async def _to_one_with_a_full_disk(self, folder: Path) -> None:
        service = self._service(folder, Path("/dev/full"))
        async with service.running() as self._stub:
            await self._tell(Reason.AUDIT_UNAVAILABLE, self._request("of a full disk"))
            assert await service.ends(signal.SIGTERM) == 0
        self._take_down(service)

    async def _to_one_with_a_hanging_disk(self, folder: Path) -> None:
        """A pipe that nobody empties takes nothing, and says nothing either."""
        pipe = folder.with_name("full-pipe")
        os.mkfifo(pipe)
        descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"\n" * 4096)
        service = self._service(folder, pipe)
        async with service.running() as self._stub:
            await self._tell(Reason.AUDIT_SLOW, self._request("of a hanging disk"))
            assert await service.ends(signal.SIGTERM) == 0
        os.close(descriptor)
        self._take_down(service)

    # ---- outcomes

    async def _hear(self, reason: Reason) -> None:
        self._idp.token.next = [LEG_1[reason]] if reason in LEG_1 else []
        self._auth.token.next = [LEG_2[reason]] * 2 if reason in LEG_2 else []
        await self._tell(reason, self._request(reason, **REQUESTS.get(reason, {})))

    async def _hear_the_others(self) -> None:
        """Those that take more than one call, or another token."""
        token = self._sign_in(self._idp, "of a loop")
        self._idp.token.next = [refusing("invalid_grant")]
        for outcome in ("before a loop", Reason.SIGN_IN_LOOP):
            await self._tell(outcome, self._request(token=token))
        self._idp.id_jag = {"email": CLAIM, "client_id": PROVIDERS_WORDS}
        await self._tell(Reason.ID_JAG_INVALID, self._request("of a mix-up"))
        self._idp.id_jag = {"email": CLAIM}
        dark = self._sign_in(self._dark_idp, "of the dark")
        await self._tell(Reason.ISSUER_KEYS_UNAVAILABLE, self._request(token=dark))
        token = self._sign_in(self._idp, "of a URL")
        path = f"/crm/{token}?access_token={token}"
        await self._tell(Reason.TOKEN_MALFORMED, self._request(token=token, path=path))
        await self._hear_abandonment()
        for outcome in ("allow", "allow from the cache"):
            await self._tell(outcome, self._request("who may"))
        path = f"/.well-known/oauth-protected-resource/crm?q={QUERY}"
        await self._tell("document", self._request("who asks", method="GET", path=path))

    async def _hear_abandonment(self) -> None:
        gate = asyncio.Event()
        self._idp.token.next = [Dial(gate=gate)]
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._tell(Reason.ABANDONED, self._request("who gives up"), seconds=0.5)
        gate.set()

    async def _tell(self, outcome: str, request: CheckRequest, *, seconds: float = 30) -> None:
        try:
            response = await self._stub.Check(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            self.heard.errors.append(f"{error} {error.trailing_metadata()}")
            raise
        if isinstance(outcome, Reason):
            assert envoys_view.reason(response) is outcome
        if response.HasField("ok_response"):
            del response.ok_response.headers[:]  # the one place where an access token belongs
        self.heard.answers[outcome] = response.SerializeToString()

    @contextlib.asynccontextmanager
    async def _two_under_way(self) -> AsyncIterator[None]:
        """Calls of two users, one held up in either leg."""
        gate = asyncio.Event()
        calls = []
        for endpoint in (self._auth.token, self._idp.token):
            endpoint.next = [Dial(gate=gate)]
            endpoint.called.clear()
            user = f"held up {len(self._user_tokens)}"
            calls.append(asyncio.ensure_future(self._stub.Check(self._request(user), timeout=30)))
            await endpoint.called.wait()
        yield
        gate.set()
        await asyncio.gather(*calls, return_exceptions=True)

    # ---- what it is told

    def _request(
        self,
        user: str = "",
        *,
        token: str | None = None,
        token_header: Mapping[str, object] | None = None,
        claims: Mapping[str, object] | None = None,
        server: str = "crm",
        headers: Mapping[str, str] | None = None,
        **http: str,
    ) -> CheckRequest:
        """A call of a tool, with a secret wherever one can be."""
        if token is None:
            token = self._sign_in(self._idp, user, token_header, **(claims or {}))
        arguments = {"name": "find", "arguments": {"text": ARGUMENT}, "_meta": {"x": ARGUMENT}}
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": arguments}
        sent = {
            "authorization": f"Bearer {token}" if token else "",
            "content-type": "application/json",
            "x-envoy-auth-partial-body": "false",
            "cookie": f"session={COOKIE}",
            **(headers or {}),
        }
        usual: dict[str, Any] = {"path": f"/crm?q={QUERY}", "body": json.dumps(message)}
        return check_request(headers=sent, extensions={"mcp.server": server}, **{**usual, **http})

    def _sign_in(
        self,
        idp: IdentityProvider,
        user: str,
        header: Mapping[str, object] | None = None,
        **claims: object,
    ) -> str:
        token = idp.sign_in(header, **{"sub": user, "email": CLAIM, **claims})
        self._user_tokens.append(token)
        return token

    def _authorization_servers(self) -> dict[str, AuthorizationServer]:
        """By the MCP server that each is for."""
        return {"crm": self._auth, "slow": self._slow_auth, "strange": self._strange_auth}

    def _service(self, folder: Path, audit_file: Path) -> Service:
        folder.mkdir()
        key = folder / "key.pem"
        key.touch(mode=0o600)
        key.write_text(PRIVATE_KEY)
        hub = {"id": "hub", "auth": "private_key_jwt", "key": {"file": str(key)}}
        secret = {"env": "CLIENT_SECRET"}
        client = {"id": "hub-at-server", "auth": "client_secret_basic", "secret": secret}
        servers = self._authorization_servers()
        settings = {
            "identity_providers": [
                {"issuer": idp.issuer, "audience": ["hub"], "client": hub}
                for idp in (self._idp, self._dark_idp)
            ],
            "authorization_servers": [
                {"issuer": server.issuer, "client": client} for server in servers.values()
            ],
            "servers": {
                name: {
                    "url": f"https://mcp.corp.example/{name}",
                    "resource": f"https://{name}.corp.example/mcp",
                    "authorization_server": server.issuer,
                    "scopes": ["read"],
                }
                for name, server in servers.items()
            },
            "audit": {"file": str(audit_file)},
            "timeouts": SECONDS,
        }
        return Service(folder, settings, CLIENT_SECRET=CLIENT_SECRET)

    # ---- what is heard

    def _take_down(self, service: Service) -> None:
        self.heard.output += service.output
        self.heard.log += service.log
        self.heard.files |= service.files()

    def _know_the_secrets(self) -> None:
        """Those that were told, and those that the service and the providers made of them."""
        marks = self.heard.marks
        for name, secret in SECRETS.items():
            marks.add(name, secret)
        for token in self._user_tokens:
            marks.add_token("user token", token)
        for id_jag in self._idp.issued:
            marks.add_token("ID-JAG", id_jag)
        for call in self._idp.token.calls:
            marks.add_token("client assertion", call.form["client_assertion"])
            self.heard.wire += call.body
        for call in self._auth.token.calls:
            marks.add("basic credentials", call.headers["authorization"].removeprefix("Basic "))
            self.heard.wire += call.body
