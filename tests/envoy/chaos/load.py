"""Load through Envoy, and how it was borne: who was answered what, and what reached the upstream."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2

from tests.doubles.tokens import claims_of
from tests.envoy.mcp_call import HEADERS, bearer, http_client, reason, whoami
from tests.envoy.recorder import Heard, Recorder

RATE: Final = 120  # calls a second
CALL: Final = "x-call"  # the header that joins a call with what the upstream heard of it
BODY: Final = whoami()
_names: Final = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody with a user token; `subject` is empty where it is good for nothing."""

    token: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One call and its answer; `status` is 0 where the connection broke. `at`: since the start."""

    call: str
    caller: Caller
    at: float
    status: int
    reason: str
    decision_id: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Borne:
    """What a load came to. `errors` are users' calls that failed, or did not arrive exactly once."""

    answers: Sequence[Answered]
    errors: Sequence[Answered]
    wrong_allows: Sequence[str]

    @property
    def slowest(self) -> float:
        return max(answer.seconds for answer in self.answers)


class Load:
    """Calls that go on while a block runs; afterwards `answers` holds them all."""

    def __init__(self, url: str, callers: Iterable[Caller], rate: float = RATE) -> None:
        self.answers: list[Answered] = []
        self._url = url
        self._callers = itertools.cycle(callers)
        self._rate = rate

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """A call each 1/rate of a second, the callers in turn, whether or not answers come."""
        stop = asyncio.Event()
        calling = asyncio.create_task(self._call_until(stop))
        try:
            yield
        finally:
            stop.set()
            await calling

    async def _call_until(self, stop: asyncio.Event) -> None:
        began = time.monotonic()
        async with http_client() as http, asyncio.TaskGroup() as calls:
            for number in itertools.count():
                calls.create_task(self._call(http, next(self._callers), began))
                wait = began + (number + 1) / self._rate - time.monotonic()
                await asyncio.sleep(max(wait, 0))
                if stop.is_set():
                    return

    async def _call(self, http: httpx2.AsyncClient, caller: Caller, began: float) -> None:
        self.answers.append(await call(http, self._url, caller, began))


async def call(http: httpx2.AsyncClient, url: str, caller: Caller, began: float = 0) -> Answered:
    """One call of `caller`; `began` is when the load did."""
    name, start = str(next(_names)), time.monotonic()
    headers = {**HEADERS, **bearer(caller.token), CALL: name}
    try:
        answer = await http.post(url, content=BODY, headers=headers)
        status, why = answer.status_code, reason(answer)
        decision_id = answer.headers.get("x-mcp-ext-authz-decision", "")
    except httpx2.HTTPError as error:
        status, why, decision_id = 0, type(error).__name__, ""
    return Answered(
        call=name,
        caller=caller,
        at=start - began,
        status=status,
        reason=why,
        decision_id=decision_id,
        seconds=time.monotonic() - start,
    )


def borne(
    answers: Sequence[Answered], upstream: Recorder, others: Iterable[Answered] = ()
) -> Borne:
    """Compares what callers were answered with what `upstream` heard since it was last emptied.

    `others` were answered beside the load: they may have failed, but not have gone astray.
    """
    callers = {answer.call: answer.caller for answer in (*answers, *others)}
    arrived = Counter(_header(heard, CALL) for heard in upstream.heard)
    return Borne(
        answers=answers,
        errors=[
            answer
            for answer in answers
            if answer.caller.subject and (answer.status, arrived[answer.call]) != (200, 1)
        ],
        wrong_allows=[
            _header(heard, CALL)
            for heard in upstream.heard
            if not _is_right(heard, callers.get(_header(heard, CALL)))
        ],
    )


def _is_right(heard: Heard, caller: Caller | None) -> bool:
    """Whether the upstream was given an access token of this very caller, and for itself."""
    if caller is None or not caller.subject or caller.token in heard:
        return False
    scheme, _, token = _header(heard, "authorization").partition(" ")
    claims = claims_of(token)
    theirs = claims_of(caller.token)["iss"]
    return scheme == "Bearer" and claims["sub"] == caller.subject and claims["iss"] != theirs


def _header(heard: Heard, name: str) -> str:
    (value,) = heard.headers[name]
    return value
