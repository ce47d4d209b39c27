"""Messages of Envoy's access log: each is unreadable, or gives outcomes that the audit can write down."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ext_authz.access_log.entry import MAX_TEXT, Entry, Unreadable, read_entries
from ext_authz.audit.canonical import canonical
from ext_authz.audit.ocsf import outcome_event
from ext_authz.auditor.outcomes import outcome_of
from ext_authz.secret import without_tokens

MOST: Final = 2**53 - 1
LONGEST: Final = 12 * MAX_TEXT  # where each character is a surrogate pair, escaped


def one_input(data: bytes) -> None:
    try:
        entries = read_entries(data)
    except Unreadable:
        return
    for entry in entries:
        _assert_judged(entry)
        line = canonical(outcome_event(entry.outcome)).decode()
        assert line.isprintable()
        assert without_tokens(line) == line
        _assert_kept(entry, orjson.loads(line))


def _assert_judged(entry: Entry) -> None:
    """Nothing but a decision of ours makes a call an allowed one."""
    outcome = entry.outcome
    assert outcome.decision_id is None or len(bytes.fromhex(outcome.decision_id)) == 16
    assert outcome.decision_id is not None or not outcome.is_allowed
    assert outcome.is_bypass is (outcome.reached_server and not outcome.is_allowed)


def _assert_kept(entry: Entry, event: Mapping[str, Any]) -> None:
    """An auditor reads what Envoy told, and each value within its bounds."""
    kept, told = outcome_of(event), entry.outcome
    assert (kept.decision_id, kept.status) == (told.decision_id, told.http_status)
    assert (kept.reached_server, kept.response_flags) == (told.reached_server, told.response_flags)
    assert 0 <= (kept.milliseconds or 0) <= MOST
    assert 0 <= kept.time_ms <= MOST
    for text in (kept.route, kept.upstream_cluster, kept.response_code_details):
        assert text is None or 0 < len(text) <= LONGEST
