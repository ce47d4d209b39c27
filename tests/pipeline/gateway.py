"""The service as Envoy sees it, with the doubles behind it."""

import io
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote_plus

import grpc
import structlog
from google.protobuf.json_format import MessageToDict

from ext_authz._protos.external_auth_pb2 import CheckRequest, CheckResponse
from ext_authz._protos.external_auth_pb2_grpc import AuthorizationStub
from ext_authz.clock import Clock
from ext_authz.log import configure_logs
from ext_authz.server import running
from ext_authz.settings.settings import Match, McpServer, Settings, Timeouts
from tests.doubles.audit_records import records_in
from tests.doubles.audit_settings import audit_settings
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import PROVIDERS_WORDS
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import CREDENTIALS
from tests.unit.check_requests import check_request

TOOL_CALL: Final[dict[str, object]] = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {"name": "find_ticket", "arguments": {"text": "argument-of-the-tool"}},
}
SIGNED_IN: Final = object()  # as a token: a fresh one of alice's


class Answer:
    """A CheckResponse, as Envoy would act on it."""

    def __init__(self, response: CheckResponse) -> None:
        self.response = response
        self.metadata: dict[str, Any] = MessageToDict(response.dynamic_metadata)

    @property
    def is_allow(self) -> bool:
        return self.response.status.code == 0 and self.response.HasField("ok_response")

    @property
    def authorization(self) -> str:
        """What the MCP server will see."""
        (header,) = self.response.ok_response.headers
        assert header.header.key == "authorization"
        return header.header.value

    @property
    def status(self) -> int:
        return self.response.denied_response.status.code

    @property
    def headers(self) -> dict[str, str]:
        return {
            option.header.key: option.header.value
            for option in self.response.denied_response.headers
        }

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.response.denied_response.body))

    @property
    def reason(self) -> str:
        return str(self.headers["x-mcp-ext-authz-reason"])

    @property
    def decision_id(self) -> str:
        return str(self.metadata["decision_id"])


class Gateway:
    """One running service with one identity provider, one authorization server and two MCP servers."""

    def __init__(
        self,
        idp: IdentityProvider,
        authorization_server: AuthorizationServer,
        time: MovableTime,
        directory: Path,
    ) -> None:
        self.idp = idp
        self.authorization_server = authorization_server
        self.time = time
        self.audit_file = directory / "audit.jsonl"
        self.user_tokens: list[str] = []
        self.settings = Settings(
            listen=f"unix:{directory}/check.sock",
            identity_providers=MappingProxyType({idp.issuer: idp.registration()}),
            authorization_servers=MappingProxyType(
                {authorization_server.issuer: authorization_server.registration()}
            ),
            servers=MappingProxyType({"crm": self._server("crm"), "wiki": self._server("wiki")}),
            audit=audit_settings(self.audit_file),
            timeouts=Timeouts(check=20, exchange=15, call=10),
        )

    @asynccontextmanager
    async def serving(self, clock: Clock | None = None) -> AsyncIterator[None]:
        async with running(self.settings, clock or self.time.clock), self.calling():
            yield

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """A channel to the service, whoever runs it."""
        async with grpc.aio.insecure_channel(self.settings.listen) as self.channel:
            self._stub = AuthorizationStub(self.channel)
            yield

    def change(self, **settings: Any) -> None:
        """Before serving: other settings."""
        self.settings = replace(self.settings, **settings)

    def sign_in(self, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        token = self.idp.sign_in(header, **claims)
        self.user_tokens.append(token)
        return token

    def request(
        self,
        *,
        token: object = SIGNED_IN,
        message: object = TOOL_CALL,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, str] | None = None,
        **request: Any,
    ) -> CheckRequest:
        """A call of a tool by alice, unless told otherwise; without a `message` there is no body."""
        sent = {"x-envoy-auth-partial-body": "false", "content-type": "application/json"}
        if token is SIGNED_IN:
            token = self.sign_in()
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        if message is None:
            del sent["x-envoy-auth-partial-body"]
        body = message if isinstance(message, str) else json.dumps(message)
        return check_request(
            headers={**sent, **(headers or {})},
            body="" if message is None else body,
            extensions={"mcp.server": "crm"} if extensions is None else extensions,
            **request,
        )

    async def check(self, request: CheckRequest) -> Answer:
        return Answer(await self._stub.Check(request, timeout=30))

    async def call(self, **request: Any) -> Answer:
        return await self.check(self.request(**request))

    def records(self) -> list[dict[str, Any]]:
        """The audit, line by line."""
        return records_in(self.audit_file)

    def secrets(self) -> list[str]:
        """Whatever may stand nowhere but on the wire to its one receiver."""
        return [
            *self.user_tokens,
            *self.idp.issued,
            *self.authorization_server.holders,
            *CREDENTIALS.values(),
            *map(quote_plus, CREDENTIALS.values()),
            "refresh-token",
            "words-of-the-provider",
            PROVIDERS_WORDS,
            "argument-of-the-tool",
        ]

    def _server(self, name: str) -> McpServer:
        return McpServer(
            name=name,
            url=f"https://mcp.corp.example/{name}",
            resource=f"https://{name}.corp.example/mcp",
            authorization_server=self.authorization_server.registration(),
            scopes=("tickets.read", "tickets.write"),
            match=Match(host="mcp.corp.example", path_prefix=f"/{name}"),
        )


@asynccontextmanager
async def gateway(time: MovableTime | None = None) -> AsyncIterator[Gateway]:
    """The doubles, running, and a service that is not yet."""
    time = time or MovableTime()
    # not pytest's own directory: its path may be longer than a socket's can be
    with tempfile.TemporaryDirectory() as directory:
        async with (
            IdentityProvider(time) as idp,
            AuthorizationServer(idp, time) as authorization_server,
        ):
            yield Gateway(idp, authorization_server, time, Path(directory))


@contextmanager
def overheard() -> Iterator[io.StringIO]:
    """All that this process logs meanwhile, ours and everybody else's, down to DEBUG."""
    ears = io.StringIO()
    handler = logging.StreamHandler(ears)
    root = logging.getLogger()
    level = root.level
    with redirect_stderr(ears):
        configure_logs(logging.DEBUG)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield ears
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        structlog.reset_defaults()


def breaking_clock(time: MovableTime, *, where: str) -> Clock:
    """The wall clock breaks for the module `where`, with words that nobody should hear."""

    def wall() -> float:
        if sys._getframe(1).f_globals["__name__"] == where:
            raise RuntimeError(PROVIDERS_WORDS)
        return time.wall

    return Clock(wall=wall, monotonic=time.clock.monotonic, chance=time.clock.chance)
