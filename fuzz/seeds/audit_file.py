"""Files of the audit log to begin with.

Most stand for themselves behind an empty line: events that the target links, as it must be able to do
with those that the fuzzer makes of them.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Any, Final

from ext_authz.audit.canonical import Event, canonical
from tests.unit.auditor.chains import Chain, decision, denial, log_event, outcome

OPENED: Final = log_event("opened", 0, cause="started", durability="written")
CALL: Final = decision(1)
ITS_OUTCOME: Final = outcome(1)


def linked(*events: Event, uid: str = "0" * 32) -> list[bytes]:
    """Lines of a file."""
    chain = Chain(uid=uid)
    chain.extend(map(named, events))
    return chain.lines


def named(event: Event) -> dict[str, Any]:
    """The event with a name that is not drawn by lot."""
    named: dict[str, Any] = dict(event)
    named["metadata"] = named["metadata"] | {"uid": "0" * 32}
    return named


def to_link(*lines: Event | bytes) -> bytes:
    """Events that are still to be linked; bytes are lines that stand as they are."""
    texts = [line if isinstance(line, bytes) else canonical(named(line)) for line in lines]
    return b"\n" + b"".join(text + b"\n" for text in texts)


def lean(event: Event) -> dict[str, Any]:
    """Only what a reader needs: so that more events fit into what the fuzzer bends."""
    names = ("metadata", "time", "time_dt", "actor", "api", "http_response", "unmapped")
    return {name: event[name] for name in names if name in event}


def changed(number: int, **members: object) -> Event:
    """A decision with other members."""
    return {**decision(number), **members}


def altered(number: int, **members: object) -> Event:
    """A decision with other members under `unmapped`."""
    event: dict[str, Any] = {**decision(number)}
    return {**event, "unmapped": {**event["unmapped"], **members}}


def checkpoint(**data: object) -> Event:
    """One that states where the chain stands, unless `data` say otherwise."""
    stated = {"head": "$HEAD", "sequence": 0, "time": 1_795_000_000_000}
    return log_event("checkpoint", 2, **{**stated, **data})


def packed(content: bytes) -> bytes:
    """A gzip file (RFC 1952) of one stored block: the same bytes from every release of zlib."""
    block = struct.pack("<BHH", 1, len(content), len(content) ^ 0xFFFF) + content
    end = struct.pack("<II", zlib.crc32(content), len(content))
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + block + end


def joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(lines)


FILE: Final = linked(lean(OPENED), lean(CALL), lean(ITS_OUTCOME))
SEEDS: Final = {
    "as_it_was_written": joined(FILE),
    "flipped": joined(FILE).replace(b'"user1"', b'"user2"'),
    "dropped": joined([FILE[0], FILE[2]]),
    "reordered": joined([FILE[0], FILE[2], FILE[1]]),
    "duplicated": joined([*FILE, FILE[1]]),
    "truncated": joined(FILE)[:-100],
    "ends_without_a_newline": joined(FILE)[:-1],
    "of_another_chain": joined([FILE[0], *linked(lean(OPENED), uid="f" * 32)]),
    "nothing": b"",
    "no_log": b"listen: unix:/run/check.sock\n",
    "zeros": bytes(100),
    "packed": packed(joined(FILE)),
    "packed_and_cut": packed(joined(FILE))[:-20],
    "packed_and_altered": packed(joined(FILE))[:10] + b"\xff" * 40,
    "allowed": to_link(OPENED, CALL, ITS_OUTCOME),
    "corrected": to_link(CALL, denial(1, "audit_slow", event="correction")),
    "bypass": to_link(outcome(1, decision_id=None)),
    "checkpoint": to_link(lean(OPENED), checkpoint()),
    "checkpoint_of_another_head": to_link(lean(OPENED), checkpoint(head="f" * 64)),
    "checkpoint_with_a_signature": to_link(
        lean(OPENED), checkpoint(key_id="$KEY", signature="AA" * 43)
    ),
    "checkpoint_of_an_odd_key": to_link(lean(OPENED), checkpoint(key_id="\x1b[2J", signature="x")),
    "decisions_of_odd_types": to_link(
        changed(1, time_dt=1),
        changed(2, actor={"user": {"uid": 7}}),
        changed(3, actor={"user": {"uid": "alice"}}, status_code=[]),
        changed(4, api={"service": {"name": {}}}, resources=[{"name": 1}]),
        changed(5, status_code=9, api={"request": {"uid": "x"}}),
    ),
    "decision_of_odd_milliseconds": to_link(altered(2, milliseconds="long")),
    "decision_of_odd_exchange": to_link(altered(2, exchange=[], fingerprints="x")),
    "decision_of_odd_verdict": to_link(altered(2, decision={"verdict": 1})),
    "outcomes_of_odd_types": to_link(
        CALL,
        {**outcome(1), "http_response": {"code": "\x1b[2J"}},
        {**outcome(2), "unmapped": {"event": "outcome", "outcome": {"reached_server": 1}}},
    ),
    "torn": to_link(lean(OPENED), b"{torn", log_event("torn", 1, bytes=5, sha256="0" * 64)),
    "torn_of_odd_types": to_link(log_event("torn", 1, bytes=True, sha256=[])),
    "said_of_itself": to_link(
        log_event("truncated", 1, bytes=7),
        log_event("lost", 2, records=3, since=1_795_000_000_000),
        log_event("unsynced", 3, first=1, last=2),
    ),
    "said_of_itself_in_odd_types": to_link(
        log_event("opened", 1, cause=[], previous="\x1b[2J", public_key=1),
        log_event("lost", 2, records="many", since="nan"),
        log_event("unsynced", 3, first={}, last=True),
    ),
}
