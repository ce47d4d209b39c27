"""Answers of token endpoints, at either leg: denied, or fit to be used as they are."""

from collections.abc import Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from ext_authz.clock import Clock
from ext_authz.exchange.circuit_breaker import CircuitBreaker, Permit
from ext_authz.exchange.id_jag import IdJag, IdJagIssuer
from ext_authz.exchange.jwt_bearer import Grant, Redeemer
from ext_authz.exchange.legs import LegNotes, Legs
from ext_authz.exchange.token_endpoint import TokenEndpoint, _read
from ext_authz.outbound import MAX_RETRY_AFTER_SECONDS, Reply, _seconds
from ext_authz.reasons import Denied, Reason
from ext_authz.secret import Secret
from ext_authz.settings.settings import McpServer
from fuzz.http_text import HttpText, read_http
from tests.unit.trails import ALICE, CRM

SERVERS: Final = [CRM, replace(CRM, scopes=())]
DAY: Final = 24 * 3600
CLOCK: Final = Clock(wall=lambda: 1_795_000_000.0)
HEADER_FIT: Final = set(map(chr, range(0x21, 0x7F))) - set('",;\\')
Product = TypeVar("Product")


class Endpoint:
    """A token endpoint that has answered."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def admission(self) -> AbstractContextManager[Permit]:
        return CircuitBreaker("endpoint", CLOCK).admitted()

    async def post(
        self, _grant: Mapping[str, str], _notes: LegNotes, _permit: Permit
    ) -> Mapping[str, object]:
        return _read(self._reply)


def one_input(data: bytes) -> None:
    text = read_http(data)
    reply = _reply(text) if text else None
    if reply is None:
        return
    endpoint = cast("TokenEndpoint", Endpoint(reply))
    for server in SERVERS:
        _leg_1(endpoint, server)
        _leg_2(endpoint, server)


def _reply(text: HttpText) -> Reply | None:
    status = text.first
    if not (status.isascii() and status.isdigit() and len(status) == len("200")):
        return None
    retry_after = _seconds(text.headers.get("retry-after"))
    return Reply(status=int(status), body=text.body or b"", retry_after=retry_after)


def _leg_1(endpoint: TokenEndpoint, server: McpServer) -> None:
    id_jag = _product(IdJagIssuer(endpoint, CLOCK).obtain(ALICE, server, Legs(CLOCK)))
    if id_jag is not None:
        _assert_fit(id_jag, server.scopes)
        assert 0 < len(id_jag.jti) <= 256


def _leg_2(endpoint: TokenEndpoint, server: McpServer) -> None:
    spent = IdJag(token=Secret("id-jag"), jti="jti-1", scope=server.scopes, expires_at=0)
    redeemer = Redeemer(endpoint)
    with redeemer.admission() as permit:
        grant = _product(redeemer.redeem(spent, server, Legs(CLOCK), permit))
    if grant is not None:
        _assert_fit(grant, server.scopes)
        assert 1 <= grant.lifetime <= DAY


def _product(stage: Coroutine[Any, Any, Product]) -> Product | None:
    """What the stage, which never waits here, comes to; None for a denial."""
    try:
        stage.send(None)
    except StopIteration as done:
        return cast("Product", done.value)
    except Denied as denied:
        _assert_ours(denied)
    return None


def _assert_fit(issued: IdJag | Grant, requested: tuple[str, ...]) -> None:
    token = issued.token.reveal()
    assert 0 < len(token) <= 16 * 1024
    assert set(token) <= HEADER_FIT
    if requested:
        assert issued.scope
        assert set(issued.scope) <= set(requested)
    assert all(set(scope) <= HEADER_FIT | set(",;") for scope in issued.scope)


def _assert_ours(denied: Denied) -> None:
    assert denied.reason is not Reason.INTERNAL
    assert len(denied.detail) <= 128
    assert denied.detail.isprintable()
    assert 0 <= (denied.retry_after or 0) <= MAX_RETRY_AFTER_SECONDS
