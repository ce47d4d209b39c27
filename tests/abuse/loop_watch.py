"""Loads a service in this process and prints the longest time, in ms, that one step held its loop.

Time spent waiting for a processor is not counted: other programs must not fail the test. It stands
in /proc/thread-self/schedstat, in nanoseconds, behind the time spent on one.
"""

import asyncio
import contextlib
import json
import os
import time
from asyncio.events import Handle
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import pytest

from ext_authz._protos.external_auth_pb2 import CheckRequest
from ext_authz.server import leave_alone_what_stays
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import AuthMethod, OAuthClient
from tests.doubles.registrations import CREDENTIALS
from tests.doubles.signing_keys import signing_key
from tests.pipeline.gateway import Gateway, gateway

KEY: Final = "RSA_KEY"
MEGABYTE: Final = 2**20
HEAVY: Final = {
    "numbers": f"[{'0,' * (MEGABYTE // 2 - 9)}0]",
    "objects": f"[{'{},' * (MEGABYTE // 3 - 9)}0]",
    "lists": f"[{('[' * 40 + ']' * 40 + ',') * (MEGABYTE // 81 - 9)}0]",
    "members": json.dumps({f"{number:06}": 1 for number in range(MEGABYTE // 13)}),
    "text": json.dumps("é" * (MEGABYTE // 2 - 9), ensure_ascii=False),
    "texts": "[" + '"",' * (MEGABYTE // 4) + '"' + "[" * 40_000 + '"]',
}


@contextlib.contextmanager
def watched() -> Iterator[list[float]]:
    """Times each step of the loop while the block runs, in ms."""
    steps: list[float] = []
    run = Handle._run
    schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def held() -> int:
        return time.monotonic_ns() - int(os.pread(schedstat, 100, 0).split()[1])

    def timed(handle: Handle) -> None:
        before = held()
        run(handle)
        steps.append((held() - before) / 1e6)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handle, "_run", timed)
        yield steps
    # the file stays open: the step that leaves this block is still being timed


def _with_rsa_key(client: OAuthClient) -> OAuthClient:
    auth = AuthMethod.PRIVATE_KEY_JWT
    return replace(client, auth=auth, credential=SecretSource(env=KEY), algorithm="RS256")


def _exchanges(gateway: Gateway) -> list[CheckRequest]:
    """First calls of many users, each with two signatures of ours, and others that join them."""
    names = [f"user-{number}" for number in range(100)]
    return [gateway.request(token=gateway.sign_in(sub=name, sid=name)) for name in names] * 3


def _bodies(gateway: Gateway) -> list[CheckRequest]:
    message = '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":'
    return [gateway.request(message=f"{message}{heavy}}}}}"[:MEGABYTE]) for heavy in HEAVY.values()]


LOADS: Final[dict[str, Callable[[Gateway], list[CheckRequest]]]] = {
    "exchanges": _exchanges,
    "bodies": _bodies,
}


async def main() -> None:
    os.environ |= CREDENTIALS | {KEY: signing_key("RS256", "hub").private_pem()}
    os.environ["SSL_CERT_FILE"] = os.devnull
    figures: dict[str, Any] = {}
    async with gateway() as standing:
        provider = standing.idp.registration()
        provider = replace(provider, client=_with_rsa_key(provider.client))
        standing.change(identity_providers=MappingProxyType({provider.issuer: provider}))
        async with standing.serving():
            await standing.call()
            leave_alone_what_stays()  # as the program does once it serves
            for name, load in LOADS.items():
                requests = load(standing)
                await asyncio.sleep(0)  # making them is no part of the load
                with watched() as steps:
                    await asyncio.gather(*map(standing.check, requests))
                figures[name] = max(steps)
    print(json.dumps(figures))  # noqa: T201 - for who started it


if __name__ == "__main__":
    asyncio.run(main())
