"""A secret shows itself nowhere: not in print, not in an error, not in a dump."""

import copy
import dataclasses
import hashlib
import json
import logging
import marshal
import pickle
import pprint
import traceback
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ext_authz
from ext_authz.secret import Secret, without_tokens

CANARY = "canary-7f3a"
# Where bytes go on the wire, or come from it; `user_token` and the token endpoint's answer make
# secrets, and these are all that look into one.
REVEALING = {
    "audit/log.py",
    "audit/otlp/collector.py",
    "exchange/client_auth.py",
    "exchange/id_jag.py",
    "exchange/jwt_bearer.py",
    "exchange/shared/token_format.py",
    "exchange/shared/valkey_server.py",
    "identity/compact_jws.py",
    "identity/verify.py",
    "audit/record.py",
    "settings/audit_settings.py",
    "settings/private_key.py",
    "settings/sealing_key.py",
    "verdict/check_response.py",
    "verdict/request_headers.py",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """A value such as those that stages hand on."""

    token: Secret


def shown_in_a_traceback(secret: Secret) -> str:
    return "".join(traceback.format_exception(RuntimeError(secret, [secret])))


def logged(secret: Secret) -> str:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    record = logging.LogRecord("n", logging.INFO, "f", 1, "%s %r", (secret, secret), None)
    handler.emit(record)
    return stream.getvalue()


PRINTED_FORMS: dict[str, Callable[[Secret], str]] = {
    "str": str,
    "repr": repr,
    "ascii": ascii,
    "format": format,
    "an f-string": lambda secret: f"{secret}",
    "an f-string with =": lambda secret: f"{secret=}",
    "an f-string with a width": lambda secret: f"{secret:>40}",
    "str.format": "{0} {0!r} {0:s}".format,
    "%s": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "a list": lambda secret: str([secret]),
    "a dict, as key and value": lambda secret: str({secret: secret}),
    "a dataclass": lambda secret: str(Holder(token=secret)),
    "pprint": lambda secret: pprint.pformat({"token": secret, "holder": Holder(token=secret)}),
    "an exception": lambda secret: f"{ValueError(secret)} {ValueError(secret)!r}",
    "a traceback": shown_in_a_traceback,
    "a log record": logged,
    "json with default=str": lambda secret: json.dumps({"token": secret}, default=str),
    "json with default=repr": lambda secret: json.dumps({"token": secret}, default=repr),
    "orjson with default=str": lambda secret: orjson.dumps(secret, default=str).decode(),
    "orjson of a dataclass": lambda secret: orjson.dumps(
        Holder(token=secret), default=repr
    ).decode(),
}

COPIES: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "pickle of a holder": lambda secret: pickle.dumps(Holder(token=secret)),
    "marshal": marshal.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": lambda secret: dataclasses.asdict(Holder(token=secret)),
    "json": json.dumps,
    "orjson": orjson.dumps,
    "vars": vars,
    "bytes": bytes,
    "iteration": list,
}


@pytest.mark.parametrize("printed", PRINTED_FORMS.values(), ids=PRINTED_FORMS.keys())
def test_no_printed_form_shows_it(printed: Callable[[Secret], str]) -> None:
    shown = printed(Secret(CANARY))

    assert "***" in shown
    assert CANARY not in shown


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES.keys())
def test_it_is_not_copied_out_of_the_process(made: Callable[[Secret], object]) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        made(Secret(CANARY))

    assert CANARY not in str(refusal.value)


@given(st.text(min_size=9))
def test_every_text_prints_alike(text: str) -> None:
    secret = Secret(text)

    assert (str(secret), repr(secret), f"{secret:x}") == ("***", "Secret(***)", "***")


def test_reveal_gives_it_out() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_its_digest_is_sha_256_of_the_text() -> None:
    assert Secret("kürbis").digest() == hashlib.sha256("kürbis".encode()).digest()


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_two_are_equal_where_their_texts_are(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) is (one == other)
    assert len({Secret(one), Secret(other)}) == len({one, other})


def test_it_is_not_equal_to_its_own_text() -> None:
    assert Secret(CANARY) != CANARY


def test_nothing_can_be_hung_onto_it() -> None:
    with pytest.raises(AttributeError):
        Secret(CANARY).note = CANARY  # type: ignore[attr-defined]


def test_only_these_modules_reveal_one() -> None:
    package = Path(ext_authz.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if ".reveal()" in path.read_text()
    }

    assert {name for name in found if not name.startswith("demo/")} == REVEALING


JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
ENCODED_JWT = "".join(f"%{ord(character):02x}" for character in JWT)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (JWT, "***"),
        (f"/crm/{JWT}/mcp", "/crm/***/mcp"),
        (f"a{JWT}&b=Bearer {JWT}", "a***&b=Bearer ***"),
        (f"/crm/{ENCODED_JWT}", "***"),
        (JWT.replace(".", "%2E"), "***"),
    ],
)
def test_a_token_in_a_clients_text_is_hidden(text: str, shown: str) -> None:
    assert without_tokens(text) == shown


@pytest.mark.parametrize(
    "text",
    ["", "create_ticket", "surveyJson.read.all", "file:///a%2fb", "eyJ", "getKeyJournalEntries.x"],
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert without_tokens(text) == text


@given(st.text(), st.text())
def test_a_token_is_hidden_whatever_stands_around_it(before: str, after: str) -> None:
    assert JWT not in without_tokens(before + JWT + after)


@pytest.mark.parametrize(
    "piece", ["eyJ", "a", "eyJhbGciOiJFUzI1NiJ9.", "eyJhbGciOiJF", "%65", "-."]
)
@pytest.mark.timeout(2)
def test_a_long_text_takes_no_longer_than_its_length(piece: str) -> None:
    assert len(without_tokens(piece * 100_000)) <= len(piece) * 100_000
