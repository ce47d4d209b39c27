"""`python -m bench.audit_reading [RECORDS]`: how fast the audit log is verified and read.

Half of the records are decisions, as the service writes them, and half outcomes.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from ext_authz.audit.canonical import canonical
from ext_authz.audit.chain import Head, link
from ext_authz.audit.ocsf import decision_event, log_event, outcome_event
from ext_authz.audit.outcome import Outcome
from ext_authz.audit.record import AuditRecord
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.joined import logs
from ext_authz.auditor.sums import Asked, stats
from ext_authz.auditor.verify import verify
from ext_authz.auditor.wanted import Wanted

RECORDS: Final = 200_000
USERS: Final = 1000
_BEGIN: Final = 1_795_000_000_000
_USUAL: Final[Mapping[str, Any]] = {
    "verdict": "allow",
    "reason": None,
    "detail": None,
    "http_status": None,
    "milliseconds": 1.25,
    "issuer": "https://idp.corp.example",
    "session": "s-1",
    "agent": "desktop",
    "server": "crm",
    "resource": "https://crm.corp.example/mcp",
    "authorization_server": "https://auth.crm.corp.example",
    "mcp_kind": "request",
    "mcp_method": "tools/call",
    "mcp_target": "create_ticket",
    "mcp_source": "body",
    "mcp_protocol_version": "2026-07-28",
    "token_source": "cache",
    "scope": "tickets.read",
    "id_jag_jti": "jti-1",
    "token_expires_at": 1_795_000_300,
    "legs": (),
    "user_token_fingerprint": "0badc0de:" + "a" * 64,
    "id_jag_fingerprint": "0badc0de:" + "b" * 64,
    "access_token_fingerprint": "0badc0de:" + "c" * 64,
    "http_method": "POST",
    "path": "/crm/mcp",
    "source_address": "192.0.2.7",
    "traceparent": None,
}


def measure(records: int) -> Mapping[str, float]:
    """Figures by name; what they are is in the name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        with path.open("wb") as file:
            file.writelines(_lines(records))
        sources = find_sources([str(path)])
        asked = Asked(since=None, until=None, now=_BEGIN * 2, outcome_ms=0)
        wanted = Wanted(user="user7")
        alone, together = partial(verify, sources, workers=1), partial(verify, sources)
        with logs(sources) as found:
            show = _seconds(lambda: list(found.rows(wanted)))
            newest = _seconds(lambda: list(found.rows(wanted, newest=10)))
        return {
            "bytes a record": path.stat().st_size / records,
            "verified records a second, 1 process": records / _seconds(alone),
            "verified records a processor's second": records / _processor_seconds(alone),
            f"verified records a second, {os.cpu_count()} processes": records / _seconds(together),
            "seconds for all calls of one user in a thousand": show,
            "seconds for the 10 newest of them": newest,
            "seconds for the sums": _seconds(lambda: stats(sources, asked)),
        }


def _lines(records: int) -> Iterator[bytes]:
    event = canonical(log_event("opened", {"cause": "started"}, time=_BEGIN / 1000))
    line, head = link(event, Head.of_a_new_chain())
    yield line
    for number in range(records // 2):
        for each in (_decision(number), _outcome(number)):
            line, head = link(canonical(each), head)
            yield line


def _decision(number: int) -> Mapping[str, object]:
    return decision_event(
        AuditRecord(
            **_USUAL,
            time=_BEGIN + number,
            decision_id=f"{number:032x}",
            subject=f"user{number % USERS}",
            rpc_id=number,
            request_id=f"r-{number}",
        )
    )


def _outcome(number: int) -> Mapping[str, object]:
    return outcome_event(
        Outcome(
            time=(_BEGIN + number) / 1000,
            decision_id=f"{number:032x}",
            reached_server=True,
            is_allowed=True,
            http_status=200,
            upstream_status=200,
            milliseconds=12.5,
            upstream_cluster="crm",
        )
    )


def _seconds(job: Callable[[], object]) -> float:
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


def _processor_seconds(job: Callable[[], object]) -> float:
    """Those that other programs on the machine do not lengthen."""
    begun = time.process_time()
    job()
    return time.process_time() - begun


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    for name, figure in measure(records).items():
        print(f"{figure:12,.2f}  {name}")


if __name__ == "__main__":
    main()
