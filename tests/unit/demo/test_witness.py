"""The witness sees every request, keeps no token, and leaves streams alone."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Scope

from ext_authz.demo.witness import MAX_BODY_BYTES, Bearer, Witness, Witnessed

ISSUER = "https://idp.corp.example"
SECRET = "a key of thirty-two bytes or more"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "whoami"}}


def token(issuer: str = ISSUER, **claims: object) -> str:
    return jwt.encode({"iss": issuer, "sub": "u", **claims}, SECRET, algorithm="HS256")


@pytest.fixture
def witness() -> Witness:
    return Witness(user_token_issuer=ISSUER)


@pytest.fixture
async def http(witness: Witness) -> AsyncIterator[httpx2.AsyncClient]:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"length": len(await request.body())}, status_code=202)

    app = Witnessed(Starlette(routes=[Route("/mcp", echo, methods=["GET", "POST"])]), witness)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


async def test_a_note_says_what_was_asked_and_by_whom(
    witness: Witness, http: httpx2.AsyncClient
) -> None:
    bearer = token("https://as.example", aud=["a", "b"], client_id="c", scope="read")
    headers = {"authorization": f"Bearer {bearer}", "mcp-protocol-version": "2026-07-28"}
    await http.post("/mcp", json=CALL, headers=headers)
    (note,) = witness.notes

    assert (note.http_method, note.path, note.status) == ("POST", "/mcp", 202)
    assert (note.mcp_method, note.tool) == ("tools/call", "whoami")
    assert note.protocol_version == "2026-07-28"
    assert note.bearer == Bearer(
        iss="https://as.example", sub="u", aud="a b", client_id="c", scope="read"
    )
    assert note.user_tokens_in == ()


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'"text"', b'{"method": "tools/call"}'])
async def test_a_body_that_is_no_call_is_noted_without_one(
    witness: Witness, http: httpx2.AsyncClient, body: bytes
) -> None:
    answer = await http.post("/mcp", content=body)

    assert answer.json() == {"length": len(body)}
    assert witness.notes[0].tool == ""


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("authorization", "Bearer {}"),
        ("x-forwarded-access-token", "{}"),
        ("x-anything", "before {} after"),
        ("cookie", "session=1; id={}; x=2"),
    ],
)
async def test_a_user_token_is_seen_in_any_header(
    witness: Witness, http: httpx2.AsyncClient, header: str, value: str
) -> None:
    await http.get("/mcp", headers={header: value.format(token())})

    assert witness.notes[0].user_tokens_in == (header,)
    assert witness.user_tokens_seen == 1


async def test_a_user_token_is_seen_in_the_url(witness: Witness, http: httpx2.AsyncClient) -> None:
    await http.get("/mcp", params={"access_token": f"Bearer {token()}"})

    assert witness.notes[0].user_tokens_in == ("url",)


async def test_every_user_token_counts(witness: Witness, http: httpx2.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {token()}", "x-two": f"{token()},{token()}"}
    await http.get("/mcp", headers=headers)

    assert witness.user_tokens_seen == 3


@pytest.mark.parametrize("other", [token("https://as.example"), "1.2.3", "host.name.example"])
async def test_nothing_else_counts(witness: Witness, http: httpx2.AsyncClient, other: str) -> None:
    await http.get("/mcp", headers={"authorization": f"Bearer {other}"})

    assert witness.user_tokens_seen == 0


async def test_the_notes_are_served_and_hold_no_token(
    witness: Witness, http: httpx2.AsyncClient
) -> None:
    user_token = token()
    await http.post("/mcp", json=CALL, headers={"authorization": f"Bearer {user_token}"})
    report = (await http.get("/witness")).text

    assert json.loads(report) == json.loads(json.dumps(witness.report()))
    assert json.loads(report)["user_tokens_seen"] == 1
    assert not any(part in report for part in user_token.split("."))


async def test_a_body_beyond_the_limit_is_not_read_to_its_end(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/mcp", content=b"x" * (MAX_BODY_BYTES + 1))

    assert answer.status_code == 413


async def test_each_piece_of_a_stream_passes_before_the_next_is_made(witness: Witness) -> None:
    passed: list[Any] = []

    async def pieces() -> AsyncIterator[str]:
        for number in range(3):
            assert len(passed) == number  # the one before has left
            yield f"data: {number}\n\n"

    async def stream(_request: Request) -> StreamingResponse:
        return StreamingResponse(pieces())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message.get("body"):
            passed.append(message["body"])

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("server", 80),
        "asgi": {"spec_version": "2.4"},
    }
    await Witnessed(Starlette(routes=[Route("/", stream)]), witness)(scope, receive, send)

    assert passed == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
