"""Entries as Envoy 1.40 writes them, measured; and an audit that keeps what it is given."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.json_format import ParseDict

from ext_authz._protos.access_log_pb2 import StreamAccessLogsMessage
from ext_authz.audit.canonical import Event
from ext_authz.audit.log import AuditUnavailable

DECISION: Final = "0123456789abcdef" * 2
FILTER: Final = "envoy.filters.http.ext_authz"

Plain = dict[str, Any]


def entry(decision_id: str | None = DECISION, verdict: str = "allow", **common: Any) -> Plain:
    """A call that was allowed and answered; keywords are other common properties."""
    ours = {"verdict": verdict, "decision_id": decision_id}
    return {
        "common_properties": {
            "start_time": "2026-11-22T12:00:00.250Z",
            "duration": "0.118479831s",
            "time_to_first_upstream_rx_byte": "0.118340464s",
            "upstream_wire_bytes_sent": "1253",
            "upstream_cluster": "crm",
            "route_name": "crm",
            "downstream_remote_address": {"socket_address": {"address": "192.0.2.7"}},
            "metadata": {"filter_metadata": {FILTER: ours}} if decision_id else {},
            "access_log_type": "DownstreamEnd",
            **common,
        },
        "request": {"request_method": "POST", "request_id": "r-1", "request_body_bytes": "288"},
        "response": {
            "response_code": 200,
            "response_body_bytes": "318",
            "response_code_details": "via_upstream",
        },
    }


def refused(decision_id: str | None = DECISION, verdict: str = "deny") -> Plain:
    """A call that ext_authz refused, or failed to judge where there is no decision."""
    plain = entry(decision_id, verdict, upstream_wire_bytes_sent=0, upstream_cluster="")
    del plain["common_properties"]["time_to_first_upstream_rx_byte"]
    plain["common_properties"]["response_flags"] = {
        "unauthorized_details": {"reason": "EXTERNAL_SERVICE"}
    }
    plain["response"] |= {"response_code": 401, "response_code_details": "ext_authz_denied"}
    return plain


def message(*entries: Mapping[str, Any]) -> bytes:
    """One message of a stream."""
    plain = {"http_logs": {"log_entry": list(entries)}}
    return ParseDict(plain, StreamAccessLogsMessage()).SerializeToString()


class KeptAudit:
    """Takes events while `fault` is empty and `is_open` is set."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.fault = ""
        self.most_at_once = 0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.asked = asyncio.Event()
        self._at_once = 0
        self._news = asyncio.Event()

    async def room(self) -> None:
        pass

    async def append(self, event: Event, *, seconds: float, is_kept: bool) -> None:
        self.asked.set()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.is_open.wait()
        finally:
            self._at_once -= 1
        if self.fault:
            raise AuditUnavailable(self.fault)
        self.events.append(event)
        self._news.set()

    async def has(self, number: int) -> None:
        """Returns when so many events have been taken."""
        async with asyncio.timeout(5):
            while len(self.events) < number:
                self._news.clear()
                await self._news.wait()

    def kinds(self) -> list[str]:
        return [event["unmapped"]["event"] for event in self.events]  # type: ignore[index]

    def decisions(self) -> list[str | None]:
        """Of which decision each event is."""
        return [
            event["metadata"].get("correlation_uid")  # type: ignore[attr-defined]
            for event in self.events
        ]
