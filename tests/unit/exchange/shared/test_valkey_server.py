"""How the server is reached: by socket, port or TLS, with a password, in a bounded time, once."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import sleep as blocking_sleep

import pytest
import trustme

from ext_authz.exchange.shared.breaker import Unavailable
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.valkey_url import ValkeyAddress
from tests.doubles.valkey import Valkey
from tests.unit.exchange.shared.conftest import MakeServer

ECHO = "return {ARGV[1], #KEYS, 1.9}"
COUNT = "return redis.call('INCR', KEYS[1])"
SOON = 0.1
PASSWORD = "päss: 1/2"


class Front:
    """A port that leads to the server's socket; it counts connections, and may swallow answers."""

    def __init__(self, valkey: Valkey, tls: ssl.SSLContext | None = None) -> None:
        self._valkey = valkey
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []
        self.connections = 0
        self.answers: bytes | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        back, forth = await asyncio.open_unix_connection(str(self._valkey.socket))
        for source, sink in ((reader, forth), (back, writer)):
            self._tasks.append(asyncio.create_task(self._pass_on(source, sink, back)))

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamReader
    ) -> None:
        with contextlib.closing(sink), contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(self.answers if source is back and self.answers is not None else data)
                await sink.drain()


async def failure(running: Awaitable[object]) -> str:
    with pytest.raises(Unavailable) as unavailable:
        await running
    return str(unavailable.value)


async def test_by_its_socket(valkey: Valkey, server_at: MakeServer) -> None:
    server = server_at(valkey.address)

    assert await server.run(ECHO, ["name"], [b"\x00\xff"]) == [b"\x00\xff", 1, 1]


async def test_by_port_and_database(valkey: Valkey, server_at: MakeServer) -> None:
    async with Front(valkey).listening() as port:
        server = server_at(ValkeyAddress(host="127.0.0.1", port=port, database=3))
        await server.run(COUNT, ["name"], [])

    assert await valkey.everything() == {}
    assert (await valkey.client.info("keyspace"))["db3"]["keys"] == 1


async def test_tls_is_verified(
    valkey: Valkey, server_at: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    async with Front(valkey, tls).listening() as port:
        there = ValkeyAddress(host="127.0.0.1", port=port, tls=True)
        elsewhere = ValkeyAddress(host="localhost", port=port, tls=True)
        assert await failure(server_at(there).run(COUNT, ["name"], [])) == "ConnectionError"

        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert await failure(server_at(elsewhere).run(COUNT, ["name"], [])) == "ConnectionError"
        assert await server_at(there).run(COUNT, ["name"], []) == 1


async def test_a_new_connection_does_not_read_the_trusted_certificates_anew(
    valkey: Valkey, server_at: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes longer than a call may, and nobody is served meanwhile."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    front = Front(valkey, tls)
    async with front.listening() as port:
        server = server_at(ValkeyAddress(host="127.0.0.1", port=port, tls=True))
        monkeypatch.setattr(ssl, "create_default_context", None)

        assert await failure(server.run(COUNT, ["name"], [])) == "ConnectionError"


@pytest.fixture
async def with_password(valkey_program: Sequence[str], tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(valkey_program, tmp_path) as valkey:
        await valkey.client.config_set("requirepass", PASSWORD)
        yield valkey


async def test_a_password_is_read_anew_for_each_connection(
    with_password: Valkey, server_at: MakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("of yesterday\n")
    file.chmod(0o400)
    server = server_at(with_password.address, password=SecretSource(file=str(file)))
    assert await failure(server.run(ECHO, [], ["x"])) == "AuthenticationError"

    file.unlink()
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o400)
    assert await server.run(ECHO, [], ["x"]) == [b"x", 0, 1]

    none = server_at(with_password.address, password=SecretSource(file=str(tmp_path / "none")))
    assert await failure(none.run(ECHO, [], ["x"])) == "SecretUnreadable"
    assert await failure(server_at(with_password.address).run(ECHO, [], ["x"])) == (
        "AuthenticationError"
    )


async def test_nobody_there(server_at: MakeServer, tmp_path: Path) -> None:
    nowhere = server_at(ValkeyAddress(path=str(tmp_path / "none.sock")))

    assert await failure(nowhere.run(ECHO, [], ["x"])) == "ConnectionError"


async def test_a_server_that_is_silent_is_given_up_in_time(
    valkey: Valkey, server_at: MakeServer
) -> None:
    server = server_at(valkey.address, seconds=SOON)
    loop = asyncio.get_running_loop()
    for _ in range(2):  # over a connection that was there, and over a new one
        await server.run(ECHO, [], ["x"])
        valkey.pause()
        for _ in range(2):
            started = loop.time()
            assert await failure(server.run(ECHO, [], ["x"])) == "TimeoutError"
            assert SOON * 0.9 < loop.time() - started < SOON * 5
        valkey.resume()
        await asyncio.sleep(SOON)


async def test_the_server_is_not_blamed_for_what_others_do_here(
    valkey: Valkey, server_at: MakeServer
) -> None:
    """Its answer is there when this process comes to read it: too late, but by no fault of its own."""
    server = server_at(valkey.address, seconds=SOON)
    await server.run(ECHO, [], ["x"])
    for _ in range(3):
        valkey.pause()
        call = asyncio.create_task(server.run(ECHO, [], ["x"]))
        await asyncio.sleep(SOON / 4)
        valkey.resume()
        blocking_sleep(1.5 * SOON)  # noqa: ASYNC251 - what others do
        assert await call == [b"x", 0, 1]


async def test_nothing_is_tried_twice(valkey: Valkey, server_at: MakeServer) -> None:
    """What it answers is nonsense; whether it did what was asked nobody knows."""
    front = Front(valkey)
    async with front.listening() as port:
        server = server_at(ValkeyAddress(host="127.0.0.1", port=port))
        assert await server.run(COUNT, ["name"], []) == 1
        front.answers = b"?nonsense\r\n"
        assert await failure(server.run(COUNT, ["name"], [])) == "InvalidResponse"

    assert front.connections == 1
    assert await valkey.everything() == {b"name": b"2"}


@pytest.mark.parametrize(
    "answers",
    [
        b":x\r\n",
        b"*1000000000\r\n",
        b"$99999999999\r\nx",
        b"$-7\r\n",
        b"*-3\r\n",
        b"\r\n",
        b"*1\r\n" * 3000,
    ],
    ids=lambda answers: repr(answers[:12]),
)
async def test_whatever_it_answers_is_no_other_error(
    valkey: Valkey, server_at: MakeServer, answers: bytes
) -> None:
    front = Front(valkey)
    async with front.listening() as port:
        server = server_at(ValkeyAddress(host="127.0.0.1", port=port), seconds=SOON)
        front.answers = answers
        with contextlib.suppress(Unavailable):
            await server.run(ECHO, [], ["x"])
        front.answers = None
        assert await server.run(ECHO, [], ["x"]) == [b"x", 0, 1]


async def test_a_script_that_is_refused_is_an_outage(valkey: Valkey, server_at: MakeServer) -> None:
    await valkey.client.config_set("maxmemory", "1")
    server = server_at(valkey.address)

    assert await failure(server.run(COUNT, ["name"], [])) == "OutOfMemoryError"


async def test_a_call_that_was_cancelled_leaves_nothing_behind(
    valkey: Valkey, server_at: MakeServer
) -> None:
    server = server_at(valkey.address)
    await server.run(ECHO, [], ["first"])
    for number in range(20):
        call = asyncio.create_task(server.run(ECHO, [], [f"late {number}"]))
        await asyncio.sleep(0.0001 * number)
        call.cancel()
        await asyncio.wait([call])
        assert await server.run(ECHO, [], [f"{number}"]) == [str(number).encode(), 0, 1]


async def test_it_says_as_little_of_itself_as_it_can(valkey: Valkey, server_at: MakeServer) -> None:
    """RESP2: by RESP3 a server can send its clients elsewhere."""
    server = server_at(valkey.address)
    await server.run(ECHO, [], ["x"])
    clients = await valkey.client.client_list()

    (ours,) = [each for each in clients if each["cmd"] == "eval"]
    assert (ours["resp"], ours["lib-name"], ours["name"]) == ("2", "", "")


async def test_closing_is_no_error_even_of_a_server_that_is_gone(
    valkey: Valkey, server_at: MakeServer
) -> None:
    server = server_at(valkey.address)
    await server.run(ECHO, [], ["x"])
    valkey.kill()

    await server.close()
