"""The calls that every gateway is asked: warm, all at once, refused, and with new user tokens."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx2
import orjson

from bench.http_load import bear_http, post
from bench.load import Borne
from bench.peers.mcp_upstream import SAID, TOOL
from ext_authz.demo.world import World

WARM_SECONDS: Final = 3.0
BURST: Final = 200
DENIALS: Final = 10
ROTATIONS: Final = 5
CALL_SECONDS: Final = 120
BODY: Final = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": TOOL, "arguments": {}},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Where the wiki is reached through it, and what it wants beside the user token."""

    address: tuple[str, int]
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}{self.path}"

    def headers_with(self, token: str) -> dict[str, str]:
        return {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "mcp-protocol-version": "2025-11-25",
            "authorization": f"Bearer {token}",
            **self.headers,
        }


def warm(gateway: Gateway, token: str) -> Borne:
    """One caller with a user token that has been exchanged before."""
    host, port = gateway.address
    headers = {"host": f"{host}:{port}", **gateway.headers_with(token)}
    request = post(gateway.path, headers, BODY)
    return bear_http(gateway.address, request, seconds=WARM_SECONDS, holds=SAID.encode())


async def burst_exchanges(gateway: Gateway, world: World) -> tuple[float, float]:
    """Requests of both legs that so many simultaneous first calls of a user cost, and their seconds."""
    before, began = _exchanges(world), time.perf_counter()
    await _ask(gateway, [id_token(world, "alice")] * BURST, is_allowed=True)
    return _exchanges(world) - before, time.perf_counter() - began


async def denial_calls(gateway: Gateway, world: World) -> float:
    """Requests to the identity provider for so many calls, one after the other, that it refuses."""
    token, before = id_token(world, "bob"), _refused(world)
    for _ in range(DENIALS):
        await _ask(gateway, [token], is_allowed=False)
    return _refused(world) - before


async def rotation_exchanges(gateway: Gateway, world: World) -> float:
    """ID-JAGs that so many user tokens of one session cost, each with a call."""
    session, before = secrets.token_hex(8), world.counts().leg1
    for _ in range(ROTATIONS):
        await _ask(gateway, [id_token(world, "carol", session)], is_allowed=True)
    return world.counts().leg1 - before


def id_token(world: World, name: str, session: str | None = None) -> str:
    """A user token of that session, or of a new one; no two are the same."""
    provider = world.identity_provider
    user = provider.policy.user(name)
    if user is None:
        raise KeyError(name)
    now = int(time.time())
    claims = {
        "iss": provider.issuer,
        "sub": user.subject,
        "aud": world.hub_client_id,
        "iat": now,
        "exp": now + 3600,
        "auth_time": now,
        "jti": secrets.token_hex(8),
        "sid": session or secrets.token_hex(8),
        "email": user.email,
        "acr": user.acr,
    }
    return provider.keys.sign(claims)


async def _ask(gateway: Gateway, tokens: list[str], *, is_allowed: bool) -> None:
    """Asks with all of them at the same time; raises `RuntimeError` at an answer of the other kind."""
    limits = httpx2.Limits(max_connections=BURST, max_keepalive_connections=BURST)
    async with httpx2.AsyncClient(trust_env=False, timeout=CALL_SECONDS, limits=limits) as http:
        answers = await asyncio.gather(
            *(
                http.post(gateway.url, content=BODY, headers=gateway.headers_with(token))
                for token in tokens
            )
        )
    for answer in answers:
        if (answer.is_success and SAID in answer.text) != is_allowed:
            raise RuntimeError(f"not as expected: {answer.status_code} {answer.text[:300]}")


def _exchanges(world: World) -> int:
    counts = world.counts()
    return counts.leg1 + sum(counts.leg2.values())


def _refused(world: World) -> int:
    return sum(world.counts().leg1_refused.values())
