"""No secret comes out anywhere: not in an answer, a log, the audit, a file, nor in a crash.

Threat H3. One run of two real services, which log all they can, gives everything to look through.
"""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from ext_authz.reasons import Reason
from tests.abuse.eavesdropping import CLIENT_SECRET, PRIVATE_KEY, SECRETS, Eavesdropper, Heard
from tests.abuse.service_process import DEVELOPMENT, environment
from tests.doubles.audit_records import records_in

NOTHING: Final = set[str]()
ALLOWS: Final = ("allow", "allow from the cache", "document")
# So many callers would have to wait first; their words are those of the others.
NOT_HEARD: Final = {Reason.AUDIT_OVERLOADED, Reason.EXCHANGE_OVERLOADED}
OUTCOMES: Final = [*sorted(set(Reason) - {Reason.ABANDONED} - NOT_HEARD), *ALLOWS]
PRINTED: Final = (  # what holds a secret, or holds what holds one
    "AccessToken",
    "AccessTokens",
    "Check",
    "IdJag",
    "McpMessage",
    "RequestFacts",
    "Secret",
    "Settings",
    "Trail",
    "Users",
    "VerifiedUser",
    "_Entry",
)


@pytest.fixture(scope="module")
def heard() -> Iterator[Heard]:
    with tempfile.TemporaryDirectory() as folder:
        yield asyncio.run(Eavesdropper().listen(Path(folder)))


def records(heard: Heard) -> list[dict[str, object]]:
    return records_in(heard.audit)


# ---- that there was something to hear


def test_h3_every_reason_was_given(heard: Heard) -> None:
    audited = {record["reason"] for record in records(heard)}
    unrecorded = {Reason.AUDIT_UNAVAILABLE, Reason.AUDIT_SLOW}
    assert audited == {*Reason, None} - unrecorded - NOT_HEARD
    assert unrecorded < heard.answers.keys()


def test_h3_every_verdict_was_given(heard: Heard) -> None:
    assert {record["verdict"] for record in records(heard)} == {
        "allow",
        "deny",
        "document",
        "abandoned",
    }
    assert {record["token_source"] for record in records(heard)} >= {"cache", "exchange"}


def test_h3_what_is_searched_for_can_be_found(heard: Heard) -> None:
    assert heard.marks.found_in(heard.wire) >= {"user token", "ID-JAG", "client assertion"}
    for name, secret in SECRETS.items():
        assert heard.marks.found_in(b"..." + secret[5:].encode() + b"...") == {name}


def test_h3_everybody_talked(heard: Heard) -> None:
    for speaker in (b"grpc", b"check_failed", b"uncaught"):
        assert speaker in heard.log


# ---- and where it must not be heard


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_h3_no_answer_gives_a_secret_away(heard: Heard, outcome: str) -> None:
    assert heard.marks.found_in(heard.answers[outcome]) == NOTHING


def test_h3_no_grpc_error_gives_a_secret_away(heard: Heard) -> None:
    assert heard.errors
    assert heard.marks.found_in("".join(heard.errors).encode()) == NOTHING


def test_h3_no_audit_record_gives_a_secret_away(heard: Heard) -> None:
    assert heard.marks.found_in(heard.audit) == NOTHING


def test_h3_no_log_gives_a_secret_away(heard: Heard) -> None:
    """At DEBUG, of all libraries; exceptions that nobody caught in the event loop included."""
    assert heard.marks.found_in(heard.log) == NOTHING
    assert heard.output == b""


def test_h3_no_crash_gives_a_secret_away(heard: Heard) -> None:
    assert b"Fatal Python error: Aborted" in heard.crash
    assert heard.marks.found_in(heard.crash) == NOTHING


@pytest.mark.parametrize("kind", PRINTED)
def test_h3_no_printed_form_gives_a_secret_away(heard: Heard, kind: str) -> None:
    """Of anything alive while two calls were under way, and after all were over."""
    printed = [line for line in heard.memory.splitlines() if line.startswith(f"{kind} ".encode())]
    assert printed
    assert heard.marks.found_in(b"".join(printed)) == NOTHING


def test_h3_nothing_alive_gives_a_secret_away(heard: Heard) -> None:
    assert heard.marks.found_in(heard.memory) == NOTHING


def test_h3_no_file_of_the_service_holds_a_secret(heard: Heard) -> None:
    assert [name for name in heard.files if name.endswith("audit.jsonl")]
    assert [name for name, content in heard.files.items() if heard.marks.found_in(content)] == []


@pytest.mark.parametrize("command", [["--help"], ["serve", "--help"], ["--version"], ["serve"]])
def test_h3_no_help_gives_a_secret_away(heard: Heard, command: list[str]) -> None:
    shown = run(*command)
    assert shown
    assert heard.marks.found_in(shown) == NOTHING


def test_h3_secrets_that_stand_in_the_settings_are_refused_unseen(
    heard: Heard, tmp_path: Path
) -> None:
    """Where an operator wrote the secret itself, and not a reference to it."""
    client = {"id": "hub", "auth": "client_secret_basic", "secret": CLIENT_SECRET}
    keyed = {"id": "hub", "auth": "private_key_jwt", "key": PRIVATE_KEY}
    file = tmp_path / "settings.yaml"
    idp = {"issuer": f"https://u:{CLIENT_SECRET}@idp.example", "audience": ["a"], "client": client}
    auth = {"issuer": "https://auth.example", "client": keyed}
    file.write_text(yaml.safe_dump({"identity_providers": [idp], "authorization_servers": [auth]}))

    shown = run("serve", str(file))

    assert b"identity_providers[0].client.secret" in shown
    assert heard.marks.found_in(shown) == NOTHING


def run(*command: str) -> bytes:
    done = subprocess.run(
        [*DEVELOPMENT, *command],
        env=environment(CLIENT_SECRET=CLIENT_SECRET),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr
