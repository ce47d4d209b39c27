"""One token endpoint and our client there: posts a grant, tells refusals from outages.

The only caller of token endpoints. What a provider says in words stays here: an error *code* of its
answer goes on, checked for its alphabet, and nothing else does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ext_authz.clock import Clock
from ext_authz.exchange.circuit_breaker import CircuitBreaker, CircuitOpen, Permit
from ext_authz.exchange.client_auth import credentials_for
from ext_authz.exchange.legs import LegNotes
from ext_authz.identity.issuer_metadata import MetadataUnavailable
from ext_authz.outbound import Outbound, OutboundError, Reply
from ext_authz.settings.secret_source import SecretUnreadable
from ext_authz.settings.settings import OAuthClient
from ext_authz.strict_json import NotStrictJson, parse_object

_ERROR_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OK: Final = 200
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
NO_CODE: Final = ""


class TokenRefused(Exception):
    """The endpoint said no (RFC 6749 section 5.2). `code` is its error code, or "" without one."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"{code or 'no error code'}, status {status}")
        self.code = code
        self.status = status


class EndpointUnavailable(Exception):
    """The endpoint gave no usable answer, and may later."""

    def __init__(self, fault: str, *, retry_after: int | None = None) -> None:
        super().__init__(fault)
        self.retry_after = retry_after


class RateLimited(EndpointUnavailable):
    """The endpoint answered 429."""


class CredentialUnreadable(Exception):
    """Our own credential for the endpoint cannot be read."""


class AnswerInvalid(Exception):
    """The endpoint said yes in a form that must not be used; the message names the rule."""


class TokenEndpoint:
    """Where `issuer` issues tokens, and `client` as which we ask."""

    def __init__(
        self,
        issuer: str,
        client: OAuthClient,
        locate: Callable[[], Awaitable[str]],
        outbound: Outbound,
        clock: Clock,
    ) -> None:
        self.issuer = issuer
        self.client = client
        self._locate = locate
        self._outbound = outbound
        self._clock = clock
        self.breaker = CircuitBreaker(issuer, clock)

    @contextmanager
    def admission(self) -> Iterator[Permit]:
        """The right to one `post` in the block.

        Raises `EndpointUnavailable`, before anything is sent, where the endpoint is not asked now.
        """
        try:
            with self.breaker.admitted() as permit:
                yield permit
        except CircuitOpen as refusal:
            raise EndpointUnavailable(str(refusal), retry_after=refusal.retry_after) from None

    async def post(
        self, grant: Mapping[str, str], notes: LegNotes, permit: Permit
    ) -> Mapping[str, object]:
        """Posts `grant` with our credentials; gives the JSON object of a 200 answer.

        Notes the answer's status, and the error code of a refusal; tells `permit` how it went.
        Raises `TokenRefused`, `EndpointUnavailable`, `RateLimited`, `CredentialUnreadable` or
        `AnswerInvalid`, and what the locating raises.
        """
        started = self._clock.monotonic()
        try:
            reply = await self._reply(grant)
        except (EndpointUnavailable, MetadataUnavailable):
            permit.failed()
            raise
        except asyncio.CancelledError:
            permit.cut_off(self._clock.monotonic() - started)
            raise
        notes.status = reply.status
        if reply.status >= _SERVER_ERROR:
            permit.failed(reply.retry_after)
        else:
            permit.answered()
        return _noted(reply, notes)

    async def _reply(self, grant: Mapping[str, str]) -> Reply:
        url = await self._locate()
        try:
            credentials = credentials_for(self.client, self.issuer, url, self._clock)
        except SecretUnreadable as error:
            raise CredentialUnreadable(str(error)) from None
        try:
            return await self._outbound.post_form(
                url, {**grant, **credentials.form}, credentials.headers
            )
        except OutboundError as error:
            raise EndpointUnavailable(str(error)) from None


def _noted(reply: Reply, notes: LegNotes) -> Mapping[str, object]:
    try:
        return _read(reply)
    except TokenRefused as refusal:
        notes.error = refusal.code or None
        raise


def _read(reply: Reply) -> Mapping[str, object]:
    if reply.status == _TOO_MANY:
        raise RateLimited("status 429", retry_after=reply.retry_after)
    if reply.status >= _SERVER_ERROR:
        raise EndpointUnavailable(f"status {reply.status}", retry_after=reply.retry_after)
    if reply.status != _OK:
        raise TokenRefused(_error_code(reply.body), reply.status)
    try:
        return parse_object(reply.body)
    except NotStrictJson as error:
        raise AnswerInvalid(str(error)) from None


def _error_code(body: bytes) -> str:
    try:
        code = parse_object(body).get("error")
    except NotStrictJson:
        return NO_CODE
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else NO_CODE
