"""The `audit` commands: their arguments, what they print, and their exit status."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ext_authz.audit.canonical import shown
from ext_authz.audit.checkpoint import NotASigningKey, read_public_key
from ext_authz.auditor.files import BadInput, find_sources, one_of
from ext_authz.auditor.report_text import report_text
from ext_authz.auditor.show import AsStored, AsTable, Form, show
from ext_authz.auditor.sums import Asked, stats
from ext_authz.auditor.sums_text import sums_text
from ext_authz.auditor.table import NARROWEST, Table
from ext_authz.auditor.tokens import fingerprints_of, read_keys, records_of, token_in
from ext_authz.auditor.verify import verify
from ext_authz.auditor.wanted import Wanted, moment

_Command: TypeAlias = Callable[[argparse.Namespace], int]

_OK, _FAILED, _BAD_INPUT = 0, 1, 2
_OUTCOME_SECONDS: Final = 3600
_TOP: Final = 10
_FOLLOW_FROM: Final = 10  # lines before those that are waited for


class Commands(Protocol):
    """What argparse gives for `add_subparsers`."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002 - argparse's word
        description: str = ...,
    ) -> argparse.ArgumentParser: ...


def add_audit(commands: Commands) -> None:
    """Adds `audit` and what is under it; each sets `run`, as the other commands do."""
    audit = commands.add_parser("audit", help="verify and read the audit log")
    kinds = audit.add_subparsers(required=True, metavar="COMMAND")
    _add_verify(kinds)
    _add_show(kinds)
    _add_stats(kinds)
    _add_fingerprint(kinds)


def _add_verify(kinds: Commands) -> None:
    parser = _add(kinds, "verify", "tell whether files are as they were written", _verify)
    parser.add_argument("--key", action="append", default=[], metavar="PEM", help=_KEY_HELP)
    parser.add_argument(
        "--checkpoints", action="append", default=[], metavar="FILE", help=_CHECKPOINTS_HELP
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_show(kinds: Commands) -> None:
    parser = _add(kinds, "show", "print decisions and what became of the calls", _show)
    for name, help_ in _FILTERS.items():
        parser.add_argument(f"--{name}", help=help_)
    parser.add_argument("--issuer", help="with --fingerprint-key: the issuer of --user")
    parser.add_argument("--fingerprint-key", metavar="FILE", help=_SUBJECT_KEY_HELP)
    _add_times(parser)
    parser.add_argument("--limit", type=_count, metavar="N", help="only the newest N")
    parser.add_argument("--follow", action="store_true", help="go on as the files grow")
    parser.add_argument("--json", action="store_true", help="print the stored lines, unchanged")


def _add_stats(kinds: Commands) -> None:
    parser = _add(
        kinds, "stats", "print who used what, denials by reason, and what is missing", _stats
    )
    _add_times(parser)
    parser.add_argument("--top", type=_count, default=_TOP, metavar="N", help="how many of each")
    parser.add_argument(
        "--outcome-seconds",
        type=_count,
        default=_OUTCOME_SECONDS,
        metavar="N",
        help="how long an outcome may take; as in the settings",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def _add_fingerprint(kinds: Commands) -> None:
    parser = _add(
        kinds,
        "fingerprint",
        "tell which records hold the token on standard input",
        _fingerprint,
        files="*",
    )
    parser.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="FILE",
        help="the file of `audit.fingerprint_key`; again for each earlier key",
    )


def _add(
    kinds: Commands, name: str, help_: str, run: _Command, *, files: str = "+"
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=help_, description=help_.capitalize() + ".")
    parser.add_argument(
        "files", nargs=files, metavar="FILE", help="the audit file, or rotated ones"
    )
    parser.set_defaults(run=lambda parsed: _run(run, parsed))
    return parser


def _add_times(parser: argparse.ArgumentParser) -> None:
    for name in ("since", "until"):
        parser.add_argument(f"--{name}", metavar="TIME", help="RFC 3339, or ago: 15m, 2h, 3d")


_KEY_HELP: Final = "the public signing key; again for each earlier key"
_CHECKPOINTS_HELP: Final = "checkpoints that were kept elsewhere (`audit.checkpoint.file`)"
_SUBJECT_KEY_HELP: Final = "where subjects are stored as HMAC: the file of `audit.fingerprint_key`"
_FILTERS: Final = {
    "user": "the subject",
    "server": "the MCP server's name",
    "tool": "the tool, prompt or resource",
    "reason": "the reason code of a denial",
    "verdict": "allow, deny, document or abandoned",
    "decision": "the decision id, or its beginning",
    "fingerprint": "a token's fingerprint, as `audit fingerprint` prints it",
    "outcome": "the status of the answer (404, 5xx), or missing, reached, unreached",
}


# -- running one


def _run(command: _Command, parsed: argparse.Namespace) -> int:
    """Runs a command; gives its exit status."""
    try:
        status: int = command(parsed)
    except BadInput as error:
        sys.stdout.flush()
        sys.stderr.write(f"mcp-ext-authz audit: {error}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        return _FAILED
    return status


def _verify(parsed: argparse.Namespace) -> int:
    report = verify(
        find_sources(parsed.files),
        keys=[_public_key(path) for path in parsed.key],
        copies=find_sources(parsed.checkpoints),
    )
    if parsed.json:
        _print([json.dumps({"intact": report.is_intact, **asdict(report)})])
    else:
        _print(report_text(report))
    return _OK if report.is_intact else _FAILED


def _public_key(path: str) -> Ed25519PublicKey:
    try:
        return read_public_key(one_of(path))
    except NotASigningKey:
        raise BadInput(f"{path}: is no Ed25519 key in PEM. Give the public one.") from None


def _show(parsed: argparse.Namespace) -> int:
    limit = parsed.limit if parsed.limit is not None or not parsed.follow else _FOLLOW_FROM
    form: Form = AsStored() if parsed.json else AsTable(_width())
    lines = show(
        find_sources(parsed.files), _wanted(parsed), form, limit=limit, follow=parsed.follow
    )
    _print(lines)
    return _OK


def _wanted(parsed: argparse.Namespace) -> Wanted:
    filters = {name: getattr(parsed, name) for name in _FILTERS}
    since, until = _times(parsed)
    return Wanted(**(filters | {"user": _subject(parsed)}), since=since, until=until)


def _subject(parsed: argparse.Namespace) -> str | None:
    """The user as the log names them."""
    if parsed.fingerprint_key is None:
        user: str | None = parsed.user
        return user
    if parsed.user is None or parsed.issuer is None:
        raise BadInput("--fingerprint-key: needs --user and --issuer, whose HMAC is looked for.")
    (key,) = read_keys([parsed.fingerprint_key])
    return key.of_subject(parsed.issuer, parsed.user)


def _stats(parsed: argparse.Namespace) -> int:
    since, until = _times(parsed)
    now = int(time.time() * 1000)
    asked = Asked(since=since, until=until, now=now, outcome_ms=parsed.outcome_seconds * 1000)
    found = stats(find_sources(parsed.files), asked)
    _print([json.dumps(asdict(found))] if parsed.json else sums_text(found, top=parsed.top))
    return _OK


def _fingerprint(parsed: argparse.Namespace) -> int:
    """The token comes by standard input: as an argument it would stand in `ps` and in the history."""
    keys, sources = read_keys(parsed.key), find_sources(parsed.files)
    fingerprints = fingerprints_of(token_in(sys.stdin.buffer.read()), keys)
    _print(fingerprints)
    if not sources:
        return _OK
    table, count = Table(_width()), 0
    for found in records_of(sources, fingerprints):
        if not count:
            _print(["", f"{'HELD AS':<24} {table.head()}"])
        count += 1
        _print([f"{shown(', '.join(found.tokens)):<24} {table.row(found.row)}"])
    _print(["", f"{count} records hold this token." if count else "No record holds this token."])
    return _OK if count else _FAILED


# -- arguments and output


def _times(parsed: argparse.Namespace) -> tuple[int | None, int | None]:
    now = time.time()
    since = None if parsed.since is None else moment(parsed.since, now)
    return since, None if parsed.until is None else moment(parsed.until, now)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def _width() -> int | None:
    """The terminal's columns; None where a program reads."""
    if not sys.stdout.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size().columns)


def _print(lines: Iterable[str | None]) -> None:
    """Prints as the lines come, for as long as somebody reads; at None, what there is so far."""
    try:
        for line in lines:
            if line is None:
                sys.stdout.flush()
            else:
                sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must go somewhere when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
