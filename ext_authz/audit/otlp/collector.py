"""One try at handing records to a collector, and what its answer means (OTLP 1, section OTLP/HTTP)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from ext_authz.audit.otlp.log_record import CONTENT_TYPE
from ext_authz.outbound import Outbound, OutboundError, Reply
from ext_authz.settings.secret_source import SecretSource, SecretUnreadable
from ext_authz.settings.settings import OtlpSink as OtlpSettings

_TRANSIENT: Final = frozenset({429, 502, 503, 504})
_OF_THE_RECORDS: Final = frozenset({400, 413, 422})
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.1
_OF_HTTP_ITSELF: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})


class Fate(Enum):
    """What is to become of the records."""

    TAKEN = "taken"
    TRY_SOON = "try soon"  # the collector, or the way to it, is in trouble
    TRY_LATER = "try later"  # a setting or a credential is wrong: somebody has to mend it
    REFUSED = "refused"  # it is these records that it will not have


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`fault` names the kind of fault, and nothing of the collector's; `retry_after` is in seconds.

    `rejected` is how many of the records that were taken the collector threw away.
    """

    fate: Fate
    fault: str | None = None
    retry_after: int | None = None
    rejected: int = 0


class Collector:
    """The collector at the settings' endpoint. Its headers are read anew for each try."""

    def __init__(self, settings: OtlpSettings, outbound: Outbound) -> None:
        self._settings = settings
        self._outbound = outbound

    async def offer(self, request: bytes) -> Answer:
        """Posts an `ExportLogsServiceRequest` once."""
        try:
            headers = self._headers()
            reply = await self._outbound.post_bytes(self._settings.endpoint, request, headers)
        except _HeaderUnusable as error:
            return Answer(fate=Fate.TRY_LATER, fault=str(error))
        except OutboundError as error:
            return Answer(fate=Fate.TRY_SOON, fault=str(error))
        return _answer(reply)

    def _headers(self) -> Mapping[str, str]:
        headers = {
            name.lower(): _value(name, source) for name, source in self._settings.headers.items()
        }
        return {**headers, "content-type": CONTENT_TYPE, "accept": CONTENT_TYPE}


class _HeaderUnusable(Exception):
    """The message names the header and never its value."""


def _value(name: str, source: SecretSource) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _OF_HTTP_ITSELF:
        raise _HeaderUnusable(f"the header {name} is none that can be set")
    try:
        value = source.read().reveal()
    except SecretUnreadable as error:
        raise _HeaderUnusable(f"the header {name}: {error}") from None
    if not (value.isascii() and value.isprintable()):
        raise _HeaderUnusable(f"the header {name} is not printable ASCII")
    return value


def _answer(reply: Reply) -> Answer:
    status, fault = reply.status, f"HTTP {reply.status}"
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer(fate=Fate.TAKEN, rejected=_rejected(reply.body))
    if status in _TRANSIENT:
        return Answer(fate=Fate.TRY_SOON, fault=fault, retry_after=reply.retry_after)
    if status in _OF_THE_RECORDS:
        return Answer(fate=Fate.REFUSED, fault=fault)
    return Answer(fate=Fate.TRY_LATER, fault=fault, retry_after=reply.retry_after)


def _rejected(body: bytes) -> int:
    """From an answer that nobody can read, nothing follows: its status says that the records were taken."""
    try:
        response = ExportLogsServiceResponse.FromString(body)
    except Exception:  # noqa: BLE001 - protobuf's own, which has no business here
        return 0
    return response.partial_success.rejected_log_records
