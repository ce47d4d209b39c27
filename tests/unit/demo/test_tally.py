"""Counting by answers, whatever the server behind them is made of."""

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ext_authz.demo.tally import CountedTokenEndpoint, Tally


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (PlainTextResponse("{}"), (1, {})),
        (PlainTextResponse('{"error": "invalid_scope"}', 400), (0, {"invalid_scope": 1})),
        (PlainTextResponse("[]", 400), (0, {"400": 1})),
        (PlainTextResponse("out of order", 500), (0, {"500": 1})),
    ],
)
async def test_an_answer_is_counted_by_status_and_error_code(
    answer: Response, counted: tuple[int, dict[str, int]]
) -> None:
    async def token(_request: Request) -> Response:
        return answer

    tally = Tally()
    app = CountedTokenEndpoint(
        Starlette(routes=[Route("/token", token, methods=["GET", "POST"])]), tally
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://server"
    ) as http:
        await http.post("/token")
        await http.get("/token")  # nobody redeems anything with a GET
        shown = (await http.get("/counts")).json()

    assert (tally.granted, tally.refused) == counted
    assert shown == {"leg2": tally.granted, "refusals": tally.refused}
