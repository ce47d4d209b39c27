"""The whole pipeline on a bench: every part in reach, and providers that are a function call away.

The parts are wired as the service wires them. Below `Outbound` there is no socket: its HTTP client
is given the doubles' endpoints as its transport.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx2

from ext_authz._protos.external_auth_pb2 import CheckRequest, CheckResponse
from ext_authz.access_log.outcomes import Outcomes
from ext_authz.audit.log import AuditLog
from ext_authz.issuers import Issuers
from ext_authz.outbound import Outbound
from ext_authz.server import build_check
from ext_authz.settings.settings import McpServer, Settings, Timeouts
from tests.doubles.audit_records import records_in
from tests.doubles.audit_settings import quiet
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.inline_worker import InlineWorker
from tests.doubles.loopback import Endpoint, Received
from tests.doubles.movable_time import MovableTime
from tests.unit.check_requests import check_request

IDP: Final = "https://idp.corp.example"
AUTH: Final = "https://auth.crm.corp.example"
CRM: Final = "https://crm.corp.example/mcp"
NEVER: Final = 3600.0
Answers = Callable[[CheckRequest], Coroutine[Any, Any, CheckResponse]]


class Body(httpx2.AsyncByteStream):
    """The body of an answer, read from and closed at its road."""

    def __init__(self, road: "Road", content: bytes) -> None:
        self._road = road
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self._road.read(self._content)

    async def aclose(self) -> None:
        await self._road.close()


class Road:
    """The way to one endpoint: asking, reading what it answers, closing."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.failed_connections = 0

    async def ask(self, request: httpx2.Request) -> httpx2.Response:
        if self.failed_connections:
            self.failed_connections -= 1
            raise httpx2.ConnectError("refused")
        received = Received(
            method=request.method,
            path=request.url.path,
            headers=dict(request.headers),
            body=await request.aread(),
        )
        dial = self._endpoint.take(received)
        if dial.gate is not None:
            await dial.gate.wait()
        status, content = self._endpoint.answer(received, dial)
        return httpx2.Response(status, stream=Body(self, content))

    async def read(self, content: bytes) -> bytes:
        return content

    async def close(self) -> None:
        pass


class Roads(httpx2.AsyncBaseTransport):
    """Every endpoint by its URL."""

    def __init__(self, idp: IdentityProvider, authorization_server: AuthorizationServer) -> None:
        self.idp_metadata = Road(idp.metadata)
        self.jwks = Road(idp.jwks)
        self.leg_1 = Road(idp.token)
        self.as_metadata = Road(authorization_server.metadata)
        self.leg_2 = Road(authorization_server.token)
        self._by_url = {
            f"{IDP}/.well-known/openid-configuration": self.idp_metadata,
            f"{IDP}/jwks": self.jwks,
            f"{IDP}/token": self.leg_1,
            f"{AUTH}/.well-known/oauth-authorization-server": self.as_metadata,
            f"{AUTH}/token": self.leg_2,
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._by_url[str(request.url)].ask(request)


class Rig:
    """The pipeline of one service. `seconds` bounds a Check; nothing else runs out of time."""

    def __init__(self, directory: Path, *, seconds: float = NEVER) -> None:
        self.time = MovableTime()
        self.idp = IdentityProvider(self.time)
        self.idp.server.origin = IDP
        self.authorization_server = AuthorizationServer(self.idp, self.time)
        self.authorization_server.server.origin = AUTH
        self.roads = Roads(self.idp, self.authorization_server)
        self.outbound = Outbound(seconds=NEVER, context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.outbound._client._transport = self.roads
        self.audit_file = directory / "audit.jsonl"
        settings = self._settings(seconds)
        self.audit = AuditLog(settings.audit, self.time.clock, worker=InlineWorker())
        self.outcomes = Outcomes(self.audit, self.time.clock)
        self.issuers = Issuers(settings, self.outbound, self.time.clock)
        self.check = build_check(settings, self.issuers, self.audit, self.outcomes, self.time.clock)
        self.answer: Answers = self.check

    def request(self, token: str | None = None, **claims: Any) -> CheckRequest:
        """A call of a tool by alice, unless `token` or `claims` say otherwise."""
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "find"}}
        headers = {
            "authorization": f"Bearer {token or self.idp.sign_in(**claims)}",
            "content-type": "application/json",
            "x-envoy-auth-partial-body": "false",
        }
        extensions = {"mcp.server": "crm"}
        return check_request(headers=headers, body=json.dumps(message), extensions=extensions)

    async def settled(self) -> None:
        """Returns once all that was entered into the audit is written, or cannot be."""
        while (writing := self.audit._flushing) is not None:
            await writing

    def close(self) -> None:
        self.audit._file.close()

    async def ask(self) -> CheckResponse:
        return await self.answer(self.request())

    def records(self) -> list[dict[str, Any]]:
        """The audit, line by line."""
        return records_in(self.audit_file)

    def _settings(self, seconds: float) -> Settings:
        provider = self.idp.registration()
        registration = self.authorization_server.registration()
        crm = McpServer(
            name="crm",
            url="https://mcp.corp.example/crm",
            resource=CRM,
            authorization_server=registration,
            scopes=("tickets.read", "tickets.write"),
        )
        return Settings(
            listen="",
            identity_providers=MappingProxyType({IDP: provider}),
            authorization_servers=MappingProxyType({AUTH: registration}),
            servers=MappingProxyType({"crm": crm}),
            audit=quiet(self.audit_file),
            timeouts=Timeouts(check=seconds, exchange=NEVER, call=NEVER),
        )
