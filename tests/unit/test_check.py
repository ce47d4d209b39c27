"""Whatever breaks at whatever stage: the answer is no, whole, recorded, and without a word of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.audit.canonical import Event
from ext_authz.audit.decision_log import DecisionLog
from ext_authz.audit.log import AuditOverloaded, AuditSlow, AuditUnavailable
from ext_authz.audit.record import AuditRecord, Recorder
from ext_authz.check import MAX_AUDIT_SECONDS, MIN_AUDIT_SECONDS, Check
from ext_authz.reasons import Denied, Reason
from ext_authz.verdict.resource_metadata import ResourceMetadata
from tests.doubles.movable_time import MovableTime
from tests.unit.check_requests import check_request
from tests.unit.trails import ALICE, CRM, HER_TOKEN, IDP, USER_TOKEN

CANARY = "words that nobody may hear"
NAMED = {"mcp.server": "crm"}


@dataclass(slots=True, kw_only=True)
class Stages:
    """Each stage of a Check: a thing that does well, until it is told to break."""

    time: MovableTime
    breaking: dict[str, BaseException] = field(default_factory=dict)
    token: Any = HER_TOKEN
    seconds: float = 5
    records: list[AuditRecord] = field(default_factory=list)
    corrections: list[AuditRecord] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    recorded: AuditRecord | None = None
    patience: float = 0

    def pass_or_break(self, stage: str, product: Any) -> Any:
        if stage in self.breaking:
            raise self.breaking[stage]
        return product

    # the catalogue, the users, the access tokens, the metadata, the audit and its entries, all in one
    def server_of(self, _facts: object) -> Any:
        return self.pass_or_break("catalogue", CRM)

    async def verify(self, _token: object) -> Any:
        return self.pass_or_break("users", ALICE)

    async def token_for(self, _user: object, _server: object) -> Any:
        return self.pass_or_break("access tokens", self.token)

    def document(self, server: Any) -> Any:
        return self.pass_or_break("metadata", ResourceMetadata([IDP]).document(server))

    @property
    def sign_in_scopes(self) -> Any:
        return ("openid",)

    def record(self, *args: Any, **kwargs: Any) -> AuditRecord:
        self.pass_or_break("recorder", None)
        self.recorded = Recorder().record(*args, **kwargs)
        return self.recorded

    def enter(self, _event: Event) -> Any:
        self.pass_or_break("audit", None)
        assert self.recorded
        self.records.append(self.recorded)
        return self

    async def durable(self, *, seconds: float) -> None:
        self.patience = seconds
        self.pass_or_break("disk", None)

    def amend(self, entry: object, *, instead: Event, correction: Event) -> None:
        self.pass_or_break("amendment", None)
        assert entry is self
        assert self.recorded
        assert instead != correction
        self.corrections.append(self.recorded)

    def expect(self, decision_id: str) -> None:
        self.expected.append(decision_id)

    async def answer(self, **request: Any) -> CheckResponse:
        stage: Any = self
        check = Check(
            catalogue=stage,
            users=stage,
            access_tokens=stage,
            metadata=stage,
            decisions=DecisionLog(stage, stage, self.time.clock),
            outcomes=stage,
            clock=self.time.clock,
            seconds=self.seconds,
        )
        headers = {"authorization": f"Bearer {USER_TOKEN}"}
        return await check(check_request(headers=headers, extensions=NAMED, **request))


@pytest.fixture
def stages(time: MovableTime) -> Stages:
    return Stages(time=time)


def reason_in(response: CheckResponse) -> str:
    reason = response.dynamic_metadata.fields["reason"].string_value
    assert response.dynamic_metadata.fields["verdict"].string_value == "deny"
    assert response.WhichOneof("http_response") == "denied_response"
    assert response.status.code != 0
    return reason


async def test_where_nothing_breaks_the_answer_is_yes(stages: Stages) -> None:
    response = await stages.answer()

    assert response.status.code == 0
    assert response.WhichOneof("http_response") == "ok_response"
    assert [record.verdict for record in stages.records] == ["allow"]
    assert stages.expected == [stages.records[0].decision_id]


BREAKAGES: dict[str, Callable[[], Exception]] = {
    "RuntimeError": lambda: RuntimeError(CANARY),
    "KeyError": lambda: KeyError(CANARY),
    "ValueError": lambda: ValueError(CANARY),
    "OSError": lambda: OSError(5, CANARY),
    "AssertionError": lambda: AssertionError(CANARY),
    "RecursionError": lambda: RecursionError(CANARY),
    "MemoryError": lambda: MemoryError(CANARY),
    "StopAsyncIteration": lambda: StopAsyncIteration(CANARY),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"", 0, 1, CANARY),
    "ExceptionGroup": lambda: ExceptionGroup(CANARY, [ValueError(CANARY)]),
    "AuditUnavailable": lambda: AuditUnavailable(CANARY),
}
every_stage = pytest.mark.parametrize("stage", ["catalogue", "users", "access tokens"])
every_breakage = pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)


@every_stage
@every_breakage
async def test_whatever_breaks_is_an_internal_denial(
    stages: Stages, stage: str, breakage: Callable[[], Exception]
) -> None:
    stages.breaking[stage] = breakage()

    response = await stages.answer()

    (record,) = stages.records
    assert reason_in(response) == record.reason == Reason.INTERNAL
    assert record.detail == type(breakage()).__name__


@every_stage
@every_breakage
async def test_nobody_hears_what_broke(
    stages: Stages,
    stage: str,
    breakage: Callable[[], Exception],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages.breaking[stage] = breakage()

    response = await stages.answer()

    logs = "".join(capsys.readouterr())
    assert "check_failed" in logs
    assert CANARY not in f"{logs}{response}{stages.records}"


@every_stage
@pytest.mark.parametrize("reason", list(Reason))
async def test_a_stages_denial_is_the_answer(stages: Stages, stage: str, reason: Reason) -> None:
    stages.breaking[stage] = Denied(reason, "a detail", retry_after=9)

    response = await stages.answer()

    (record,) = stages.records
    assert reason_in(response) == record.reason == reason
    assert record.detail == "a detail"


@every_stage
async def test_a_stages_own_timeout_is_a_deadline(stages: Stages, stage: str) -> None:
    stages.breaking[stage] = TimeoutError(CANARY)

    assert reason_in(await stages.answer()) == Reason.DEADLINE_EXCEEDED


@every_breakage
async def test_metadata_that_breaks_is_a_denial_too(
    stages: Stages, breakage: Callable[[], Exception]
) -> None:
    stages.breaking["metadata"] = breakage()

    response = await stages.answer(method="GET", path="/.well-known/oauth-protected-resource/crm")

    assert reason_in(response) == Reason.INTERNAL


# ---- an answer that cannot be written

MIX_UPS = {
    "somebody else's token": replace(HER_TOKEN, subject="bob"),
    "another issuer's token": replace(HER_TOKEN, issuer="https://idp.other.example"),
    "another server's token": replace(HER_TOKEN, resource="https://wiki.corp.example/mcp"),
    "no token": None,
}


@pytest.mark.parametrize("token", MIX_UPS.values(), ids=MIX_UPS)
async def test_what_must_not_be_allowed_is_denied_and_recorded_as_denied(
    stages: Stages, token: object
) -> None:
    stages.token = token

    response = await stages.answer()

    (record,) = stages.records
    assert reason_in(response) == Reason.INTERNAL
    assert (record.verdict, record.reason) == ("deny", Reason.INTERNAL)


# ---- a record that cannot be written


UNRECORDED = {
    "unavailable": (AuditUnavailable("No space left on device"), Reason.AUDIT_UNAVAILABLE),
    "overloaded": (AuditOverloaded("the queue is full"), Reason.AUDIT_OVERLOADED),
    "slow": (AuditSlow("not durable in time"), Reason.AUDIT_SLOW),
    "broken": (RuntimeError(CANARY), Reason.INTERNAL),
}
NOT_DURABLE = {**UNRECORDED, "cancelled in itself": (asyncio.CancelledError(), Reason.INTERNAL)}


@pytest.mark.parametrize(("error", "reason"), UNRECORDED.values(), ids=UNRECORDED)
async def test_without_a_record_nothing_is_allowed(
    stages: Stages, error: Exception, reason: Reason
) -> None:
    stages.breaking["audit"] = error

    assert reason_in(await stages.answer()) == reason
    assert not stages.expected


@pytest.mark.parametrize(("error", "reason"), NOT_DURABLE.values(), ids=NOT_DURABLE)
async def test_a_record_that_does_not_become_durable_is_amended_to_what_was_answered(
    stages: Stages, error: BaseException, reason: Reason
) -> None:
    stages.breaking["disk"] = error

    response = await stages.answer()

    (recorded,), (corrected,) = stages.records, stages.corrections
    assert recorded.verdict == "allow"
    assert (corrected.verdict, corrected.reason) == ("deny", reason)
    assert corrected.decision_id == recorded.decision_id
    assert reason_in(response) == reason
    assert not stages.expected


async def test_a_caller_who_gives_up_on_the_disk_is_amended_and_let_go(stages: Stages) -> None:
    class WaitingDisk(Stages):
        async def durable(self, *, seconds: float) -> None:
            await asyncio.sleep(seconds)

    waiting = WaitingDisk(time=stages.time)

    await given_up(waiting)

    assert [record.reason for record in waiting.corrections] == [Reason.ABANDONED]


@pytest.mark.parametrize("error", [AuditUnavailable("full"), RuntimeError(CANARY)], ids=repr)
async def test_an_amendment_that_fails_too_changes_no_answer(
    stages: Stages, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.breaking |= {"disk": AuditSlow("not durable in time"), "amendment": error}

    assert reason_in(await stages.answer()) == Reason.AUDIT_SLOW
    assert CANARY not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("seconds", "patience"), [(5, MAX_AUDIT_SECONDS), (0.1, MIN_AUDIT_SECONDS), (0.5, 0.5)]
)
async def test_durability_is_awaited_for_what_the_check_has_left(
    stages: Stages, seconds: float, patience: float
) -> None:
    stages.seconds = seconds

    await stages.answer()

    assert stages.patience == pytest.approx(patience)


@pytest.mark.parametrize("stage", ["users", "access tokens"])
async def test_without_a_record_a_denial_is_none_either(stages: Stages, stage: str) -> None:
    stages.breaking[stage] = Denied(Reason.POLICY_DENIED)
    stages.breaking["audit"] = AuditUnavailable("No space left on device")

    assert reason_in(await stages.answer()) == Reason.AUDIT_UNAVAILABLE


@pytest.mark.parametrize("error", [RuntimeError(CANARY), OSError(5, CANARY)], ids=repr)
async def test_an_audit_that_breaks_otherwise_is_an_internal_denial(
    stages: Stages, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.breaking["audit"] = error

    response = await stages.answer()

    assert reason_in(response) == Reason.INTERNAL
    assert CANARY not in f"{''.join(capsys.readouterr())}{response}"


# ---- callers who give up


class WaitingStages(Stages):
    """Waits for its user for ever, as for a provider that does not answer."""

    async def verify(self, _token: object) -> Any:
        await asyncio.Event().wait()


async def given_up(stages: Stages) -> None:
    """A Check that is under way, and then cancelled."""
    check = asyncio.create_task(stages.answer())
    await asyncio.sleep(0)
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check


async def test_a_caller_who_gives_up_is_recorded_and_let_go(time: MovableTime) -> None:
    stages = WaitingStages(time=time)

    await given_up(stages)

    (record,) = stages.records
    assert (record.verdict, record.reason) == ("abandoned", Reason.ABANDONED)


@pytest.mark.parametrize("error", [AuditUnavailable("full"), RuntimeError(CANARY)], ids=repr)
async def test_a_caller_who_gives_up_is_let_go_even_without_a_record(
    time: MovableTime, error: Exception
) -> None:
    await given_up(WaitingStages(time=time, breaking={"audit": error}))


@every_stage
async def test_a_part_that_was_cancelled_is_no_caller_who_gave_up(
    stages: Stages, stage: str
) -> None:
    """Envoy still waits, and must get an answer."""
    stages.breaking[stage] = asyncio.CancelledError()

    response = await stages.answer()

    (record,) = stages.records
    assert reason_in(response) == record.reason == Reason.INTERNAL


class SlowStages(Stages):
    async def verify(self, _token: object) -> Any:
        await asyncio.sleep(5)


async def test_a_check_ends_in_its_time(time: MovableTime) -> None:
    slow = SlowStages(time=time, seconds=0.02)

    assert reason_in(await slow.answer()) == Reason.DEADLINE_EXCEEDED


async def test_every_check_has_a_decision_of_its_own(stages: Stages) -> None:
    for _ in range(100):
        await stages.answer()

    assert len({record.decision_id for record in stages.records}) == 100
