"""The story of one Check.

    facts ─▶ server ─▶ message ─▶ user ─▶ access token ─▶ verdict ─▶ audit ─▶ response

Each stage gives one value or raises `Denied`. Whatever else happens is a denial too: to Envoy, the
absence of an answer must never look like an allow.
"""

import asyncio
from typing import Final

from ext_authz._protos.external_auth_pb2 import CheckRequest, CheckResponse
from ext_authz.access_log.outcomes import Outcomes
from ext_authz.audit.decision_log import DecisionLog
from ext_authz.cancellation import was_cancelled
from ext_authz.clock import Clock
from ext_authz.exchange.access_tokens import AccessTokens
from ext_authz.identity.verify import Users
from ext_authz.log import Logger, logger, place_of
from ext_authz.reasons import Denied, Reason
from ext_authz.request.catalogue import Catalogue
from ext_authz.request.facts import read_facts
from ext_authz.request.mcp_message import read_message
from ext_authz.request.user_token import user_token
from ext_authz.verdict.check_response import check_response
from ext_authz.verdict.resource_metadata import ResourceMetadata
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Allow, Deny, Verdict

MIN_AUDIT_SECONDS: Final = 0.25  # Envoy waits a little longer than a Check may take
MAX_AUDIT_SECONDS: Final = 1.0
_log: Final[Logger] = logger("check")


class Check:
    """Answers CheckRequests. `seconds` bounds each of them as a whole."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        users: Users,
        access_tokens: AccessTokens,
        metadata: ResourceMetadata,
        decisions: DecisionLog,
        outcomes: Outcomes,
        clock: Clock,
        seconds: float,
    ) -> None:
        self._catalogue = catalogue
        self._users = users
        self._access_tokens = access_tokens
        self._metadata = metadata
        self._decisions = decisions
        self._outcomes = outcomes
        self._clock = clock
        self._seconds = seconds

    async def __call__(self, request: CheckRequest) -> CheckResponse:
        """The response to `request`: always a whole one, and recorded before it is given."""
        trail = Trail.begin(self._clock)
        try:
            verdict = await self._decide(request, trail)
        except asyncio.CancelledError:
            self._decisions.abandon(trail)
            raise
        verdict, response = self._write(trail, verdict)
        failure = await self._decisions.record(trail, verdict, patience=self._patience(trail))
        if failure is not None:
            return self._response(trail, failure)
        if response.HasField("ok_response"):
            self._outcomes.expect(trail.decision_id)
        return response

    async def _story(self, request: CheckRequest, trail: Trail) -> Verdict:
        facts = trail.facts = read_facts(request)
        server = trail.server = self._catalogue.server_of(facts)
        if facts.asks_for_resource_metadata:
            return self._metadata.document(server)
        trail.message = read_message(facts)
        user = trail.user = await self._users.verify(user_token(facts))
        token = trail.token = await self._access_tokens.token_for(user, server)
        return Allow(token=token)

    async def _decide(self, request: CheckRequest, trail: Trail) -> Verdict:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._story(request, trail)
        except Denied as denied:
            return Deny(
                reason=denied.reason,
                detail=denied.detail,
                retry_after=denied.retry_after,
                legs=denied.legs,
            )
        except TimeoutError:
            return Deny(reason=Reason.DEADLINE_EXCEEDED)
        except asyncio.CancelledError as error:
            if was_cancelled():
                raise
            return _internal(error)  # a part of ours was cancelled, and Envoy still waits
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no
            return _internal(error)

    def _write(self, trail: Trail, verdict: Verdict) -> tuple[Verdict, CheckResponse]:
        """The response, written before the record: what is recorded is what is answered."""
        try:
            return verdict, self._response(trail, verdict)
        except Exception as error:  # noqa: BLE001 - as above
            denial = _internal(error)
            return denial, self._response(trail, denial)

    def _patience(self, trail: Trail) -> float:
        """Seconds to wait for durability: what the Check has left, and at least a little."""
        left = self._seconds - trail.milliseconds(self._clock) / 1000
        return max(MIN_AUDIT_SECONDS, min(MAX_AUDIT_SECONDS, left))

    def _response(self, trail: Trail, verdict: Verdict) -> CheckResponse:
        return check_response(
            trail,
            verdict,
            milliseconds=trail.milliseconds(self._clock),
            scopes=self._metadata.sign_in_scopes,
        )


def _internal(error: BaseException) -> Deny:
    """The exception's type and place are kept; its text may hold anything, and goes nowhere."""
    _log.error("check_failed", exception=type(error).__name__, at=place_of(error))
    return Deny(reason=Reason.INTERNAL, detail=type(error).__name__)
