"""What every OAuth endpoint here does alike: a form read strictly, an answer never cached."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"
ID_JAG_PROFILE: Final = "urn:ietf:params:oauth:grant-profile:id-jag"
ID_JAG_TYP: Final = "oauth-id-jag+jwt"

_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}


class Refusal(Exception):
    """An OAuth error on its way to the client (RFC 6749 section 5.2)."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


async def read_form(request: Request) -> dict[str, str]:
    """The body's fields; a field that comes twice is refused (RFC 6749 section 3.2)."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type != "application/x-www-form-urlencoded":
        raise Refusal("invalid_request", "the body must be a urlencoded form")
    try:
        pairs = parse_qsl((await request.body()).decode("ascii"), keep_blank_values=True)
    except ValueError:
        raise Refusal("invalid_request", "the body is not a urlencoded form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal("invalid_request", "a parameter came more than once")
    return fields


def granted(body: Mapping[str, Any]) -> JSONResponse:
    return JSONResponse(body, headers=_NO_STORE)


def refused(refusal: Refusal) -> JSONResponse:
    """The refusal as JSON; a 401 names the scheme, as HTTP wants (RFC 9110 section 15.5.2)."""
    challenge = {"www-authenticate": "Basic"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
    body = {"error": refusal.error, "error_description": refusal.description}
    return JSONResponse(body, status_code=refusal.status, headers=_NO_STORE | challenge)
