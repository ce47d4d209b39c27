"""Operational logs: JSON lines on stderr."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from ext_authz.log import configure_logs, logger, place_of

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def the_logs_of_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def raise_at(depth: int) -> None:
    if depth:
        raise_at(depth - 1)
    raise ValueError(CANARY)


def raised(depth: int) -> ValueError:
    try:
        raise_at(depth)
    except ValueError as error:
        return error
    raise AssertionError


def test_a_worker_signs_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(worker=2)
    logger("server").info("serving")
    logger("workers").info("worker_died", worker=1)
    lines = map(json.loads, capsys.readouterr().err.splitlines())

    assert [(line["event"], line["worker"]) for line in lines] == [
        ("serving", 2),
        ("worker_died", 1),
    ]


def test_an_event_is_one_json_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    logger("exchange").warning("exchange_failed", server="crm", reason="as_unavailable")
    line = json.loads(capsys.readouterr().err)

    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {
        "event": "exchange_failed",
        "level": "warning",
        "room": "exchange",
        "server": "crm",
        "reason": "as_unavailable",
    }


def test_a_line_break_in_a_field_makes_no_second_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    logger("check").info("denied", tool='a\n{"event":"allowed"}\x1b[2J')
    shown = capsys.readouterr().err

    assert shown.count("\n") == 1
    assert "\x1b" not in shown


@pytest.mark.parametrize(("level", "expected"), [(logging.INFO, 1), (logging.DEBUG, 2)])
def test_what_is_below_the_level_is_silent(
    capsys: pytest.CaptureFixture[str], level: int, expected: int
) -> None:
    configure_logs(level)
    logger("check").debug("quiet")
    logger("check").info("loud")

    assert len(capsys.readouterr().err.splitlines()) == expected


def test_a_logger_made_before_the_configuration_obeys_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    early = logger("check")
    configure_logs(logging.ERROR)
    early.warning("quiet")

    assert capsys.readouterr().err == ""


def test_the_place_of_an_error_is_file_line_and_function_innermost_last() -> None:
    place = place_of(raised(0))

    assert [entry.rpartition(" ")[2] for entry in place] == ["raised", "raise_at"]
    assert all(entry.startswith("test_log.py:") for entry in place)


def test_the_place_of_an_error_shows_no_value_and_is_short() -> None:
    place = place_of(raised(50))

    assert len(place) == 5
    assert CANARY not in str(place)
