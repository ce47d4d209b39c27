"""A user's MCP client: the official SDK's, with a bearer token, in either era of the protocol."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent, TextResourceContents

TIMEOUT_SECONDS: Final = 30


class Era(StrEnum):
    """The protocol revisions that differ in kind: with handshake and session, and without."""

    SESSION = "2025-11-25"
    STATELESS = "2026-07-28"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFailure:
    """An HTTP answer of 400 and above; `body` is its JSON, or None where it has none."""

    status: int
    www_authenticate: str
    headers: Mapping[str, str]
    body: Any


class RequestFailedError(Exception):
    """The request was answered with an HTTP error, which is `failure`."""

    def __init__(self, failure: HttpFailure) -> None:
        super().__init__(f"HTTP {failure.status}")
        self.failure = failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool returned: the text, and `value` where it was structured."""

    text: str
    value: Any
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One progress notification, and when it arrived: seconds since the call began."""

    seconds: float
    progress: float
    message: str


class Connection:
    """An open connection. Every method raises `RequestFailedError` where HTTP failed."""

    def __init__(self, client: Client, failures: list[HttpFailure]) -> None:
        self._client = client
        self._failures = failures

    @property
    def protocol_version(self) -> str:
        return self._client.protocol_version

    async def list_tools(self) -> tuple[str, ...]:
        """The names of the tools that the server shows this user."""
        with _http_failures(self._failures):
            return tuple(tool.name for tool in (await self._client.list_tools()).tools)

    async def call(self, tool: str, **arguments: Any) -> Answer:
        with _http_failures(self._failures):
            return _answer(await self._client.call_tool(tool, arguments))

    async def call_watching(self, tool: str, **arguments: Any) -> tuple[Answer, tuple[Piece, ...]]:
        """The same for a tool that reports progress: also what it reported, and when that came."""
        began = time.monotonic()
        pieces: list[Piece] = []

        async def arrived(
            progress: float,
            total: float | None,  # noqa: ARG001 - the SDK's signature
            message: str | None,
        ) -> None:
            seconds = time.monotonic() - began
            pieces.append(Piece(seconds=seconds, progress=progress, message=message or ""))

        with _http_failures(self._failures):
            result = await self._client.call_tool(tool, arguments, progress_callback=arrived)
        return _answer(result), tuple(pieces)

    async def read_resource(self, uri: str) -> str:
        with _http_failures(self._failures):
            contents = (await self._client.read_resource(uri)).contents
        return "".join(part.text for part in contents if isinstance(part, TextResourceContents))

    async def get_prompt(self, name: str, **arguments: str) -> str:
        with _http_failures(self._failures):
            messages = (await self._client.get_prompt(name, arguments)).messages
        return "".join(m.content.text for m in messages if isinstance(m.content, TextContent))


@contextlib.asynccontextmanager
async def connect(
    url: str, token: str = "", *, era: Era = Era.STATELESS, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Connection]:
    """Opens a connection to the MCP server at `url` with `token` as bearer, if there is one.

    Raises `RequestFailedError`; in the session era the handshake may already.
    """
    failures: list[HttpFailure] = []
    async with _http(token, headers or {}, failures) as http:
        client = Client(
            streamable_http_client(url, http_client=http),
            mode="legacy" if era is Era.SESSION else era.value,
            cache=None,  # each call of the story is to be a request
        )
        with _unwrapped():
            async with contextlib.AsyncExitStack() as stack:
                with _http_failures(failures), _unwrapped():
                    await stack.enter_async_context(client)
                yield Connection(client, failures)


def _http(
    token: str, headers: Mapping[str, str], failures: list[HttpFailure]
) -> httpx2.AsyncClient:
    """An HTTP client that notes every failure, because the SDK keeps only that there was one."""

    async def note(response: httpx2.Response) -> None:
        if response.is_error:
            await response.aread()
            failures.append(_failure(response))

    bearer = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(
        headers={**headers, **bearer},
        event_hooks={"response": [note]},
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    )


def _failure(response: httpx2.Response) -> HttpFailure:
    try:
        body = response.json()
    except json.JSONDecodeError:
        body = None
    return HttpFailure(
        status=response.status_code,
        www_authenticate=response.headers.get("www-authenticate", ""),
        headers=dict(response.headers),
        body=body,
    )


@contextlib.contextmanager
def _http_failures(failures: list[HttpFailure]) -> Iterator[None]:
    """Turns the SDK's error into the HTTP failure behind it, if there was one since the start."""
    before = len(failures)
    try:
        yield
    except MCPError as error:
        if len(failures) > before:
            raise RequestFailedError(failures[-1]) from error
        raise


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Takes a lone exception out of the groups that the SDK's task groups put it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        lone = _lone(group)
        raise lone from lone.__cause__


def _lone(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _answer(result: CallToolResult) -> Answer:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    value = result.structured_content
    wrapped = isinstance(value, dict) and value.keys() == {"result"}
    return Answer(text=text, value=value["result"] if wrapped else value, is_error=result.is_error)
