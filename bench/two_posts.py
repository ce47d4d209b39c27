"""The two requests of an exchange and nothing else: `python -m bench.two_posts`.

Reads a line with both legs' ready-made requests from stdin, posts them one after the other, the second with
the first one's ID-JAG, and writes the seconds to stdout; then the next line.
"""

import asyncio
import base64
import json
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import httpx2
import jwt
import uvloop

from ext_authz.demo.oauth_endpoint import ID_JAG, ID_TOKEN, JWT_BEARER, TOKEN_EXCHANGE
from ext_authz.demo.world import World

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS: Final = 60


def leg_1(world: World) -> Mapping[str, Any]:
    """URL, form and headers of leg 1 for a new sign-in of alice: what our service sends, too."""
    provider = world.identity_provider
    form = {
        "grant_type": TOKEN_EXCHANGE,
        "requested_token_type": ID_JAG,
        "audience": world.crm.issuer,
        "resource": world.crm.resource,
        "subject_token": world.sign_in("alice"),
        "subject_token_type": ID_TOKEN,
        "scope": " ".join(world.crm.scopes),
        "client_id": world.hub_client_id,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": _assertion(world),
    }
    return {"url": provider.token_endpoint, "data": form, "headers": {}}


def leg_2(world: World) -> Mapping[str, Any]:
    """The same of leg 2; its `assertion` is leg 1's answer."""
    pair = f"{world.crm.client_id}:{world.crm.client_secret.reveal()}"
    form = {
        "grant_type": JWT_BEARER,
        "resource": world.crm.resource,
        "scope": " ".join(world.crm.scopes),
        "client_id": world.crm.client_id,
    }
    basic = "Basic " + base64.b64encode(pair.encode()).decode()
    return {
        "url": f"{world.crm.issuer}token",
        "data": form,
        "headers": {"authorization": basic},
    }


def _assertion(world: World) -> str:
    now = int(time.time())
    claims = {
        "iss": world.hub_client_id,
        "sub": world.hub_client_id,
        "aud": world.identity_provider.issuer,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + ASSERTION_SECONDS,
    }
    return jwt.encode(claims, world.hub_private_key.reveal(), algorithm="ES256")


async def _answer_lines() -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
        while line := await asyncio.to_thread(sys.stdin.readline):
            first, second = json.loads(line)
            print(await _seconds(http, first, second), flush=True)


async def _seconds(
    http: httpx2.AsyncClient, first: dict[str, Any], second: dict[str, Any]
) -> float:
    began = time.perf_counter()
    id_jag = await _token(http, first)
    second["data"]["assertion"] = id_jag
    await _token(http, second)
    return time.perf_counter() - began


async def _token(http: httpx2.AsyncClient, request: dict[str, Any]) -> str:
    answer = await http.post(**request)
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_answer_lines())
