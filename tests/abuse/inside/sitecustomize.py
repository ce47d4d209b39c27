"""Runs inside the service's process, before it does: everything logs, and on a signal it looks around.

Python imports this module by its name at the start. SIGUSR1 writes the printed form of whatever of
ours is alive to the file named by `LOOKED_AROUND`; SIGUSR2 lets exceptions loose in the event loop.
"""

import asyncio
import gc
import logging
import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ext_authz import check
from ext_authz.log import configure_logs
from ext_authz.request.facts import RequestFacts
from ext_authz.request.mcp_message import McpMessage

read_message = check.read_message  # type: ignore[attr-defined]


def log_everything() -> None:
    logging.basicConfig(level=logging.DEBUG, format="%(name)s %(levelname)s %(message)s")
    logging.captureWarnings(capture=True)
    configure_logs.__defaults__ = (logging.DEBUG,)


def of_ours() -> Iterator[object]:
    """Everything alive that the package made, and every exception; but not Envoy's own messages."""
    gc.unfreeze()  # what was made at the start is hidden otherwise
    for each in gc.get_objects():
        module = str(type(each).__module__)
        is_ours = module.startswith("ext_authz.") and not module.startswith("ext_authz._protos")
        if is_ours or isinstance(each, BaseException):
            yield each


def look_around(_number: int, _frame: object) -> None:
    file = Path(os.environ["LOOKED_AROUND"])
    with file.open("a") as shown:
        for each in of_ours():
            shown.write(f"{type(each).__name__} {each!r} {each!s}\n")
            if isinstance(each, BaseException):
                shown.write("".join(traceback.format_exception(each)))
        shown.write("looked around\n")


def secrets_at_hand() -> str:
    return " ".join(str(each.headers) for each in of_ours() if isinstance(each, RequestFacts))


def fail() -> NoReturn:
    raise RuntimeError(secrets_at_hand())


async def fail_later() -> None:
    fail()


def let_loose(_number: int, _frame: object) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon_threadsafe(fail)
    loop.call_soon_threadsafe(lambda: asyncio.ensure_future(fail_later()))


def read_message_or_fail(facts: RequestFacts) -> McpMessage:
    if "x-fail" in facts.headers:
        fail()
    message: McpMessage = read_message(facts)
    return message


log_everything()
signal.signal(signal.SIGUSR1, look_around)
signal.signal(signal.SIGUSR2, let_loose)
check.read_message = read_message_or_fail  # type: ignore[attr-defined]
