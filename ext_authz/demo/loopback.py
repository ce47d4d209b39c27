"""Servers on loopback ports, run inside the current event loop."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from typing import Final, TypeVar

import uvicorn
from starlette.types import ASGIApp

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 10
STOP_SECONDS: Final = 1

T = TypeVar("T")


class PortTakenError(Exception):
    """A port could not be had; the message says which, who needs it and why, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens. `front` is Envoy's, who is started by somebody else."""

    front: int
    identity_provider: int
    crm: int
    wiki: int
    wiki_authorization_server: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An app, the port it is to be served on, and what to call it when that port is taken."""

    name: str
    port: int
    app: ASGIApp


def free_ports() -> Ports:
    """Ports that nobody uses at this moment."""
    with contextlib.ExitStack() as held:
        # All are held until the last is found: a port let go could be given out twice.
        sockets = [held.enter_context(_bound("a free port", 0)) for _ in fields(Ports)]
        numbers = [sock.getsockname()[1] for sock in sockets]
    return Ports(**{field.name: n for field, n in zip(fields(Ports), numbers, strict=True)})


@contextlib.asynccontextmanager
async def serving(everything: Sequence[Served]) -> AsyncIterator[None]:
    """Serves until the block ends; raises `PortTakenError`."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_no_proxy_for_loopback())
        sockets = [stack.enter_context(_bound(each.name, each.port)) for each in everything]
        servers = [_server(each.app) for each in everything]
        for server, listener in zip(servers, sockets, strict=True):
            await stack.enter_async_context(_running(server, listener))
        try:
            yield
        finally:
            for server in servers:  # all at once, or each would wait for the one before
                server.should_exit = True


@contextlib.contextmanager
def in_thread(block: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enters `block` in a thread with an event loop of its own; leaves it when this block ends."""
    entered: Future[T] = Future()
    leave: Future[None] = Future()

    async def live() -> None:
        async with block as value:
            entered.set_result(value)
            await asyncio.wrap_future(leave)

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    thread = threading.Thread(target=run, name="demo world")
    thread.start()
    try:
        yield entered.result()
    finally:
        leave.set_result(None)
        thread.join()


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,  # logging is the program's business
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _QuietServer(config)


@contextlib.asynccontextmanager
async def _running(server: uvicorn.Server, listener: socket.socket) -> AsyncIterator[None]:
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await _started(server, task)
        yield
    finally:
        server.should_exit = True
        await task


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("a server of the demo world stopped while it started")
            await asyncio.sleep(0.01)


class _QuietServer(uvicorn.Server):
    """Leaves the signals to the program it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _bound(name: str, port: int) -> socket.socket:
    # asyncio switches Nagle's delay off only where the protocol is spelt out: 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = f"Port {port}, which {name} needs, cannot be had: {error.strerror}."
        raise PortTakenError(reason) from None
    return listener


@contextlib.contextmanager
def _no_proxy_for_loopback() -> Iterator[None]:
    """Keeps a company's HTTP proxy out of calls that never leave this machine."""
    names = ("NO_PROXY", "no_proxy")
    before = {name: os.environ.get(name) for name in names}
    for name, value in before.items():
        os.environ[name] = ",".join(filter(None, (value, HOST, "localhost")))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
