"""The one way out: HTTP to identity providers, authorization servers and collectors, guarded.

https, or http to loopback; no redirects, no proxies or credentials from the environment, no
cookies, no compression; a cap on the size of an answer; one total deadline for the whole call,
because a peer that dribbles bytes resets every per-read timeout for ever.
"""

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, NoReturn, Self, TypeAlias
from urllib.parse import urlsplit

import httpx2

MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_RETRY_AFTER_SECONDS: Final = 600
_Content: TypeAlias = Mapping[str, str] | bytes | None
_PLAIN_URL: Final = re.compile(
    r"https?://[\x21\x23-\x5B\x5D-\x7E]+"
)  # no quotes: they end up in headers
# Every parser reads such an authority alike; urlsplit overlooks what follows a `]`.
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Za-z:.]+\]|[0-9A-Za-z._~-]+)(:[0-9]*)?")
# inet_aton(3), to which names go last, reads far more than four decimal numbers
_ODD_ADDRESS: Final = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)\.?")


class OutboundError(Exception):
    """The call gave no usable answer; the message names the kind of fault and nothing of the peer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a peer answered. `retry_after` is in seconds, where the peer sent one."""

    status: int
    body: bytes
    retry_after: int | None = None


def refuse_unguarded(url: str) -> None:
    """Raises `OutboundError` unless `url` is https, or http to a loopback address."""
    if not _PLAIN_URL.fullmatch(url):
        _refuse("not a URL")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        _refuse("not a URL")
    if not host or not _AUTHORITY.fullmatch(parts.netloc) or "#" in url:
        _refuse("not a plain URL")
    if _address(host) is None and _ODD_ADDRESS.fullmatch(host):
        _refuse("an address in an odd spelling")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        _refuse("neither https nor loopback")
    if _is_link_local(host):
        _refuse("a link-local address")  # 169.254.169.254 serves cloud credentials


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by literal address or by the name localhost (RFC 6761)."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


class Outbound:
    """A pool of connections with the guards above. `seconds` bounds each call as a whole."""

    def __init__(self, *, seconds: float, context: ssl.SSLContext | None = None) -> None:
        self._seconds = seconds
        self._client = httpx2.AsyncClient(
            verify=context or ssl.create_default_context(),
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            timeout=seconds,
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50),
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )

    async def get(self, url: str) -> Reply:
        """GETs `url`; raises `OutboundError`."""
        return await self._send("GET", url, None, {})

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply:
        """POSTs `form` (application/x-www-form-urlencoded) to `url`; raises `OutboundError`.

        Tried once more only where the connection failed before anything was sent: an ID-JAG that
        may have been received is spent.
        """
        return await self._send("POST", url, form, headers)

    async def post_bytes(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """POSTs `body` to `url`, its type among the `headers`; raises `OutboundError`.

        Tried once more only as `post_form` is.
        """
        return await self._send("POST", url, body, headers)

    async def close(self) -> None:
        """Closes the pool."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(
        self, method: str, url: str, content: _Content, headers: Mapping[str, str]
    ) -> Reply:
        refuse_unguarded(url)
        try:
            async with asyncio.timeout(self._seconds):
                try:
                    return await self._attempt(method, url, content, headers)
                except httpx2.ConnectError:
                    return await self._attempt(method, url, content, headers)
        except (TimeoutError, httpx2.TimeoutException):
            _refuse("timed out")
        except httpx2.ConnectError:
            _refuse("could not connect")
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL):
            _refuse("broken answer")

    async def _attempt(
        self, method: str, url: str, content: _Content, headers: Mapping[str, str]
    ) -> Reply:
        body = content if isinstance(content, bytes) else None
        form = dict(content) if isinstance(content, Mapping) else None
        request = self._client.build_request(
            method, url, content=body, data=form, headers=dict(headers)
        )
        response = await self._client.send(request, stream=True)
        try:
            return await _read(response)
        finally:
            await response.aclose()


async def _read(response: httpx2.Response) -> Reply:
    if response.is_redirect:
        _refuse("redirected")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        _refuse("compressed")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            _refuse("too large")
    return Reply(
        status=response.status_code,
        body=bytes(body),
        retry_after=_seconds(response.headers.get("retry-after")),
    )


def _seconds(value: str | None) -> int | None:
    """RFC 9110 section 10.2.3, delta-seconds only: an HTTP date would trust the peer's clock."""
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > len("9999999"):
        return None
    return min(int(value), MAX_RETRY_AFTER_SECONDS)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # ::ffff:169.254.169.254


def _is_link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _refuse(kind: str) -> NoReturn:
    raise OutboundError(kind) from None
