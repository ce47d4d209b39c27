"""What can go wrong at one place of the pipeline, and how it is made to go wrong there."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ext_authz.exchange.access_token import AccessToken, Source
from ext_authz.secret import Secret
from tests.abuse.await_points import AwaitPoint, standing_in

CANARY: Final = "canary-5d41402abc4b2a76"


class Chatty(Exception):
    """Says a secret however it is printed."""

    def __str__(self) -> str:
        return CANARY

    __repr__ = __str__


class Unprintable(Exception):
    """Whoever prints it fails."""

    def __str__(self) -> NoReturn:
        raise RuntimeError(CANARY)

    __repr__ = __str__


RAISED: Final[dict[str, Callable[[], BaseException]]] = {
    "ValueError": lambda: ValueError(CANARY),
    "KeyError": lambda: KeyError(CANARY),
    "RuntimeError": lambda: RuntimeError(CANARY),
    "TypeError": lambda: TypeError(CANARY),
    "MemoryError": lambda: MemoryError(CANARY),
    "RecursionError": lambda: RecursionError(CANARY),
    "OSError": lambda: OSError(5, CANARY),
    "TimeoutError": lambda: TimeoutError(CANARY),
    "UnicodeError": lambda: UnicodeError(CANARY),
    "ExceptionGroup": lambda: ExceptionGroup(CANARY, [ValueError(CANARY)]),
    "Chatty": lambda: Chatty(CANARY),
    "Unprintable": lambda: Unprintable(CANARY),
}


def _access_token(subject: str, resource: str) -> AccessToken:
    return AccessToken(
        value=Secret(CANARY),
        issuer="https://idp.corp.example",
        subject=subject,
        resource=resource,
        scope=("tickets.read",),
        expires_at=2**33,
        id_jag_jti="jti",
        source=Source.CACHE,
    )


RETURNED: Final[dict[str, object]] = {
    "None": None,
    "a text": CANARY,
    "an empty object": object(),
    "a token of somebody else": _access_token("mallory", "https://crm.corp.example/mcp"),
    "a token of another server": _access_token("alice", "https://wiki.corp.example/mcp"),
}


@dataclass(frozen=True, slots=True)
class Hangs:
    """As a fault: never comes back."""


Fault = BaseException | Hangs | object


class Spoiled:
    """Stands in for one method of one part: as good as it, except for its call number `call`."""

    def __init__(self, original: Callable[..., Any], fault: Fault, call: int) -> None:
        self._original = original
        self._fault = fault
        self._call = call
        self.struck = asyncio.Event()
        self.stood_in: set[AwaitPoint] = set()

    def method(self) -> Callable[..., Any]:
        """What takes the original's place: a coroutine function where that is one."""
        if inspect.iscoroutinefunction(self._original):
            return self._answer_later
        return self._answer

    def _answer(self, *given: Any, **named: Any) -> Any:
        if self._is_for_later():
            return self._original(*given, **named)
        return self._strike()

    async def _answer_later(self, *given: Any, **named: Any) -> Any:
        if self._is_for_later():
            return await self._original(*given, **named)
        if isinstance(self._fault, Hangs):
            self.struck.set()
            await asyncio.Event().wait()
        return self._strike()

    def _is_for_later(self) -> bool:
        self._call -= 1
        return self._call != -1

    def _strike(self) -> object:
        self.stood_in = standing_in()
        self.struck.set()
        if isinstance(self._fault, BaseException):
            raise self._fault
        return self._fault
