"""The commands as they are typed: what they print, and how they exit."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ext_authz.__main__ import main
from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.secret import Secret
from tests.unit.auditor.chains import (
    PUBLIC_PEM,
    Chain,
    chain_of,
    decision,
    decision_id,
    denial,
    outcome,
    write,
)

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
OLD_KEY, NEW_KEY = "old" * 12, "new" * 12
COMMAND = [sys.executable, "-m", "ext_authz", "audit"]


@pytest.fixture
def chain() -> Chain:
    return chain_of(60, every=20)


@pytest.fixture
def file(tmp_path: Path, chain: Chain) -> str:
    return write(tmp_path / "audit.jsonl", chain.lines)


@pytest.fixture
def key(tmp_path: Path) -> str:
    return write(tmp_path / "public.pem", [PUBLIC_PEM.encode()])


# -- verify


def test_verify_exits_with_0_where_all_is_intact(
    file: str, key: str, tmp_path: Path, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = write(tmp_path / "copies", chain.checkpoints)

    assert main(["audit", "verify", file, "--key", key, "--checkpoints", copies]) == 0
    assert capsys.readouterr().out.startswith("INTACT: 60 records in 1 files.")


def test_verify_exits_with_1_and_names_the_first_break(
    file: str, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path(file), [*chain.lines[:30], *chain.lines[31:]])

    assert main(["audit", "verify", file]) == 1
    assert f"The first: {file}:31." in capsys.readouterr().out


def test_verify_gives_its_report_as_json(
    file: str, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path(file), [*chain.lines[:30], *chain.lines[31:]])
    main(["audit", "verify", "--json", file])
    report = json.loads(capsys.readouterr().out)

    assert report["intact"] is False
    assert report["breaks"][0]["kind"] == "dropped"
    assert report["breaks"][0]["sequence"] == 30


# -- show


def test_show_prints_a_table(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", file, "--user", "user3", "--limit", "2"]) == 0

    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("TIME (UTC)")
    assert [row.split()[-1] for row in rows] == [decision_id(45), decision_id(52)]


def test_show_gives_the_stored_lines(
    file: str, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "show", file, "--decision", decision_id(3), "--json"]) == 0

    assert capsys.readouterr().out.encode() == chain.lines[3]


def test_show_finds_a_user_whose_name_is_not_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, key = Chain(), write(tmp_path / "key", [OLD_KEY.encode()])
    issuer = "https://idp.corp.example"
    hidden = Fingerprints(OLD_KEY).of_subject(issuer, "alice")
    chain.extend([decision(1, subject=hidden), decision(2, subject="hmac:other")])
    file = write(tmp_path / "a", chain.lines)

    status = main(
        ["audit", "show", file, "--user", "alice", "--issuer", issuer, "--fingerprint-key", key]
    )

    out = capsys.readouterr().out
    assert status == 0
    assert decision_id(1) in out
    assert decision_id(2) not in out


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    file = write(tmp_path / "a", chain_of(5000).lines)
    with subprocess.Popen(
        [*COMMAND, "show", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()

    assert (process.returncode, errors) == (0, b"")


def test_show_follows_through_a_rotation(tmp_path: Path) -> None:
    chain = Chain()
    chain.append(decision(1))
    path = Path(write(tmp_path / "audit.jsonl", chain.lines))
    output = tmp_path / "output"
    with (
        output.open("wb") as out,
        subprocess.Popen([*COMMAND, "show", str(path), "--follow"], stdout=out) as process,
    ):
        try:
            _until_said(output, decision_id(1))
            with path.open("ab") as file:
                file.write(chain.append(decision(2)))
            path.rename(tmp_path / "rotated.jsonl")
            lines = [denial(3), outcome(2), outcome(9, decision_id=None)]
            path.write_bytes(b"".join(chain.append(line) for line in lines))
            _until_said(output, "NO DECISION")
        finally:
            process.send_signal(signal.SIGINT)
    said = output.read_text().splitlines()

    assert [line.split()[1:3] for line in said[1:]] == [
        ["allow", "user1"],
        ["allow", "user2"],
        ["policy_denied", "user3"],
        ["outcome", "-"],
        ["NO", "DECISION"],
    ]


def _until_said(output: Path, text: str) -> None:
    end = time.monotonic() + 20
    while text not in output.read_text():
        assert time.monotonic() < end, output.read_text()
        time.sleep(0.05)


# -- stats


def test_stats_prints_sums(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "stats", file, "--top", "1"]) == 0
    assert "56 decisions" in capsys.readouterr().out


def test_stats_gives_sums_as_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "stats", file, "--json", "--since", "2026-11-18T11:06:40.5Z"]) == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == 9


# -- fingerprint


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """The key of today, and the one before."""
    files = [
        write(tmp_path / name, [f"{key}\n".encode()])
        for name, key in (("new", NEW_KEY), ("old", OLD_KEY))
    ]
    return [argument for file in files for argument in ("--key", file)]


def pipe_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def held(number: int, key: str, **changes: Any) -> Any:
    value = Fingerprints(key).of(Secret(TOKEN).digest())
    return decision(number, **({"user_token_fingerprint": value} | changes))


def test_a_token_has_a_fingerprint_under_each_key(
    keys: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe_in(monkeypatch, f"Bearer {TOKEN}\n".encode())

    assert main(["audit", "fingerprint", *keys]) == 0
    assert capsys.readouterr().out.split() == [
        Fingerprints(key).of(Secret(TOKEN).digest()) for key in (NEW_KEY, OLD_KEY)
    ]


def test_records_under_an_earlier_key_are_found_too(
    keys: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """I7: rotation of the fingerprint key keeps old records checkable."""
    chain = Chain()
    chain.extend([held(1, OLD_KEY), decision(2), held(3, NEW_KEY)])
    file = write(tmp_path / "a", chain.lines)
    pipe_in(monkeypatch, TOKEN.encode())

    assert main(["audit", "fingerprint", *keys, file]) == 0
    out = capsys.readouterr().out
    assert "2 records hold this token" in out
    assert "user_token" in out
    assert [decision_id(number) in out for number in (1, 2, 3)] == [True, False, True]
    assert TOKEN not in out


def test_a_token_that_no_record_holds_is_said_to_be_none_of_ours(
    keys: list[str],
    file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe_in(monkeypatch, TOKEN.encode())

    assert main(["audit", "fingerprint", *keys, file]) == 1
    assert "No record holds this token" in capsys.readouterr().out


# -- what cannot be used


@pytest.mark.parametrize("text", [b"", b"two tokens", b"\xff\xfe", b"x" * 70_000])
def test_what_is_no_token_is_refused(
    keys: list[str],
    text: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe_in(monkeypatch, text)

    assert main(["audit", "fingerprint", *keys]) == 2
    assert "standard input: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "DIR"],
        ["verify", "MISSING"],
        ["verify", "GARBAGE"],
        ["verify", "FILE", "--key", "GARBAGE"],
        ["verify", "FILE", "--checkpoints", "GARBAGE"],
        ["show", "DIR"],
        ["show", "GARBAGE"],
        ["show", "FILE", "--since", "soon"],
        ["show", "FILE", "--outcome", "bad"],
        ["show", "FILE", "--user", "a", "--fingerprint-key", "FILE"],
        ["stats", "GARBAGE"],
        ["stats", "MISSING"],
        ["fingerprint", "--key", "GARBAGE"],
        ["fingerprint", "--key", "SHORT"],
        ["fingerprint", "--key", "MISSING"],
    ],
)
def test_bad_input_is_named_and_exits_with_2(
    arguments: list[str], tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "DIR").mkdir()
    write(tmp_path / "GARBAGE", [b"\xff\x00" * 500])
    write(tmp_path / "SHORT", [b"short"])
    Path(file).rename(tmp_path / "FILE")
    given = [str(tmp_path / each) if each.isupper() else each for each in arguments]

    assert main(["audit", *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mcp-ext-authz audit: ")
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_read_is_named(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", f"{file}/inside"]) == 2
    assert f"{file}/inside: cannot be read: Not a directory." in capsys.readouterr().err
