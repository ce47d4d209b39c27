"""The command line."""

import argparse
import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ext_authz import __version__
from ext_authz.auditor.commands import add_audit
from ext_authz.log import configure_logs, silence_libraries
from ext_authz.settings.settings import Settings
from ext_authz.settings.yaml_cursor import SettingsInvalid


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status: 0, 1 for a failure, 2 for bad input."""
    parsed = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        return run(parsed)
    except SettingsInvalid as invalid:
        _say(*map(str, invalid.faults))
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mcp-ext-authz",
        description="Gives each MCP call through Envoy the right user's token for the right server.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="answer Envoy's ext_authz filter")
    serving.add_argument("file", help="an Envoy bootstrap YAML, or the settings mapping alone")
    serving.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # how we start our workers
    serving.set_defaults(run=_serve)
    demo = commands.add_parser("demo", help="run everything on loopback and show it")
    demo.add_argument("--keep", action="store_true", help="stay up and print how to try it by hand")
    demo.add_argument("--json", action="store_true", help="print the figures as the last line")
    demo.set_defaults(run=_demo)
    add_audit(commands)
    return parser


def _serve(parsed: argparse.Namespace) -> int:
    # Imported here, since the audit's commands need neither gRPC nor HTTP, which take a second to load.
    from ext_authz.cannot_serve import CannotServe  # noqa: PLC0415
    from ext_authz.settings.load import load_settings  # noqa: PLC0415

    configure_logs(worker=parsed.worker)
    silence_libraries()
    try:
        if parsed.worker is not None:
            return _work(parsed.file, parsed.worker)
        settings = load_settings(parsed.file)
        return _supervise(parsed.file) if settings.workers > 1 else _serve_alone(settings)
    except CannotServe as error:
        _say(str(error))
        return 1


def _serve_alone(settings: Settings) -> int:
    from ext_authz.server import serve  # noqa: PLC0415
    from ext_authz.settings.workers import for_worker  # noqa: PLC0415

    run_loop(serve(for_worker(settings, 1)))
    return 0


def _supervise(file: str) -> int:
    from ext_authz.workers.supervisor import supervise  # noqa: PLC0415

    return 0 if asyncio.run(supervise(file)) else 1


def _work(file: str, number: int) -> int:
    """Serves as one of several workers, on the settings that the parent hands over."""
    from ext_authz.server import serve  # noqa: PLC0415
    from ext_authz.settings.load import load_document  # noqa: PLC0415
    from ext_authz.settings.workers import for_worker  # noqa: PLC0415
    from ext_authz.workers.handover import PIPE, received  # noqa: PLC0415

    settings = load_document(received(PIPE), file)
    run_loop(serve(for_worker(settings, number), parent=PIPE))
    return 0


def _demo(parsed: argparse.Namespace) -> int:
    if importlib.util.find_spec("fastmcp") is None:
        _say("The demo needs more packages: pip install 'mcp-ext-authz[demo]'.")
        return 1
    from ext_authz.demo.story import tell  # noqa: PLC0415 - an extra's packages

    try:
        return asyncio.run(tell(keep=parsed.keep, as_json=parsed.json))
    except (asyncio.CancelledError, KeyboardInterrupt):
        _say("The demo was interrupted.")
        return 1


def run_loop(main_coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs on uvloop where that is installed."""
    factory = None
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415 - an extra

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main_coroutine)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
