"""Every reason of the table, provoked: what the caller sees, what is remembered, what leaks.

One table says how each reason comes about, one what follows from it; each test is about one
consequence, for all reasons.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest

from ext_authz.clock import Clock
from ext_authz.reasons import Reason
from ext_authz.settings.settings import Timeouts
from ext_authz.verdict.answers import ANSWERS
from tests.doubles.audit_settings import audit_settings
from tests.doubles.loopback import PROVIDERS_WORDS, Dial
from tests.doubles.registrations import CREDENTIALS
from tests.pipeline.gateway import Answer, Gateway, breaking_clock, overheard
from tests.pipeline.gateway import gateway as not_yet_serving

# ---- how each reason comes about

REQUESTS: dict[Reason, dict[str, Any]] = {
    Reason.REQUEST_MALFORMED: {"path": "no-slash"},
    Reason.HTTP_METHOD_REFUSED: {"method": "PUT"},
    Reason.SERVER_UNKNOWN: {"extensions": {"mcp.server": "nobody"}},
    Reason.MESSAGE_MALFORMED: {"message": [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]},
    Reason.MESSAGE_HEADER_MISMATCH: {"headers": {"mcp-method": "tools/list"}},
    Reason.TOKEN_MISSING: {"token": None},
    Reason.TOKEN_MALFORMED: {"token": "opaque"},
}
TOKENS: dict[Reason, Callable[[Gateway], str]] = {
    Reason.TOKEN_ISSUER_UNKNOWN: lambda g: g.sign_in(iss="https://idp.other.example"),
    Reason.TOKEN_SIGNATURE_INVALID: lambda g: g.sign_in({"alg": "RS256"}),
    Reason.TOKEN_EXPIRED: lambda g: g.sign_in(iat=g.time.now - 100, exp=g.time.now - 40),
    Reason.TOKEN_AUDIENCE_WRONG: lambda g: g.sign_in(aud="another-client"),
    Reason.TOKEN_CLAIMS_INVALID: lambda g: g.sign_in({"typ": "oauth-id-jag+jwt"}),
}
LEG_1: dict[Reason, Dial] = {
    Reason.SUBJECT_TOKEN_REFUSED: Dial(error="invalid_grant"),
    Reason.STEP_UP_REQUIRED: Dial(error="insufficient_user_authentication"),
    Reason.POLICY_DENIED: Dial(error="access_denied", status=403),
    Reason.SCOPE_DENIED: Dial(error="invalid_scope"),
    Reason.HUB_CLIENT_REFUSED: Dial(error="invalid_client", status=401),
    Reason.IDP_UNAVAILABLE: Dial(status=500, body=PROVIDERS_WORDS.encode()),
    Reason.IDP_RATE_LIMITED: Dial(status=429, headers={"retry-after": "77"}),
    Reason.IDP_ANSWER_INVALID: Dial(body=PROVIDERS_WORDS.encode()),
    Reason.DEADLINE_EXCEEDED: Dial(delay=5),
}
LEG_2: dict[Reason, Dial] = {
    Reason.ID_JAG_REFUSED: Dial(error="invalid_grant"),
    Reason.RESOURCE_REFUSED: Dial(error="invalid_target"),
    Reason.USER_NOT_PROVISIONED: Dial(error="access_denied"),
    Reason.SERVER_CLIENT_REFUSED: Dial(error="invalid_client", status=401),
    Reason.AS_UNAVAILABLE: Dial(status=503, body=PROVIDERS_WORDS.encode()),
    Reason.AS_RATE_LIMITED: Dial(status=429),
    Reason.AS_ANSWER_INVALID: Dial(members={"token_type": "DPoP"}),
}
ELSEWHERE: dict[Reason, Callable[[Gateway], None]] = {
    Reason.ISSUER_KEYS_UNAVAILABLE: lambda g: turn(g.idp.jwks, Dial(status=500)),
    Reason.AS_METADATA_INVALID: lambda g: turn(
        g.authorization_server.metadata, Dial(members={"issuer": "https://evil.example"})
    ),
    Reason.ID_JAG_INVALID: lambda g: g.idp.id_jag.update(client_id="somebody-else"),
    Reason.SIGN_IN_LOOP: lambda g: turn(g.idp.token, Dial(error="invalid_grant")),
    Reason.INTERNAL: lambda g: None,
}
# Provoked in tests of their own: the first three have no record of their own, the last no answer.
NOT_HERE = {
    Reason.AUDIT_UNAVAILABLE,
    Reason.AUDIT_OVERLOADED,
    Reason.AUDIT_SLOW,
    Reason.ABANDONED,
    Reason.EXCHANGE_OVERLOADED,
}
PROVOKED = [*REQUESTS, *TOKENS, *LEG_1, *LEG_2, *ELSEWHERE]


def turn(endpoint: Any, dial: Dial) -> None:
    endpoint.dial = dial


def prepare(gateway: Gateway, reason: Reason) -> None:
    gateway.idp.token.dial = LEG_1.get(reason, Dial())
    gateway.authorization_server.token.dial = LEG_2.get(reason, Dial())
    if reason in ELSEWHERE:
        ELSEWHERE[reason](gateway)
    if reason is Reason.DEADLINE_EXCEEDED:
        gateway.change(timeouts=Timeouts(check=0.2, exchange=2, call=1))


def clock(gateway: Gateway, reason: Reason) -> Clock:
    """Of what breaks inside us nothing but a part can be made to break: here the clock."""
    if reason is Reason.INTERNAL:
        return breaking_clock(gateway.time, where="ext_authz.identity.verify")
    return gateway.time.clock


async def provoke(gateway: Gateway, reason: Reason) -> Answer:
    if reason in TOKENS:
        return await gateway.call(token=TOKENS[reason](gateway))
    if reason is Reason.SIGN_IN_LOOP:
        token = gateway.sign_in()
        await gateway.call(token=token)
        return await gateway.call(token=token)
    return await gateway.call(**REQUESTS.get(reason, {}))


# ---- what follows from it: status, challenge, seconds to wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    status: int
    challenge: str | None = None
    retry_after: int | None = None


SIGN_IN_AGAIN = Consequence(status=401, challenge='error="invalid_token", ')
NO = Consequence(status=403)
LATER = Consequence(status=503, retry_after=5)
OURS_TO_MEND = Consequence(status=503, retry_after=30)
THEIRS_TO_MEND = Consequence(status=502)

CONSEQUENCES = {
    Reason.REQUEST_MALFORMED: NO,
    Reason.HTTP_METHOD_REFUSED: NO,
    Reason.SERVER_UNKNOWN: NO,
    Reason.MESSAGE_MALFORMED: NO,
    Reason.MESSAGE_HEADER_MISMATCH: NO,
    Reason.TOKEN_MISSING: replace(SIGN_IN_AGAIN, challenge=""),
    Reason.TOKEN_MALFORMED: SIGN_IN_AGAIN,
    Reason.TOKEN_ISSUER_UNKNOWN: SIGN_IN_AGAIN,
    Reason.TOKEN_SIGNATURE_INVALID: SIGN_IN_AGAIN,
    Reason.TOKEN_EXPIRED: SIGN_IN_AGAIN,
    Reason.TOKEN_AUDIENCE_WRONG: SIGN_IN_AGAIN,
    Reason.TOKEN_CLAIMS_INVALID: SIGN_IN_AGAIN,
    Reason.ISSUER_KEYS_UNAVAILABLE: LATER,
    Reason.SUBJECT_TOKEN_REFUSED: SIGN_IN_AGAIN,
    Reason.SIGN_IN_LOOP: NO,
    Reason.STEP_UP_REQUIRED: replace(
        SIGN_IN_AGAIN, challenge='error="insufficient_user_authentication", '
    ),
    Reason.POLICY_DENIED: NO,
    Reason.SCOPE_DENIED: NO,
    Reason.HUB_CLIENT_REFUSED: OURS_TO_MEND,
    Reason.IDP_UNAVAILABLE: LATER,
    Reason.IDP_RATE_LIMITED: replace(LATER, retry_after=77),  # as the provider said
    Reason.IDP_ANSWER_INVALID: THEIRS_TO_MEND,
    Reason.ID_JAG_INVALID: THEIRS_TO_MEND,
    Reason.ID_JAG_REFUSED: THEIRS_TO_MEND,
    Reason.RESOURCE_REFUSED: THEIRS_TO_MEND,
    Reason.USER_NOT_PROVISIONED: NO,
    Reason.SERVER_CLIENT_REFUSED: OURS_TO_MEND,
    Reason.AS_UNAVAILABLE: LATER,
    Reason.AS_RATE_LIMITED: OURS_TO_MEND,
    Reason.AS_METADATA_INVALID: OURS_TO_MEND,
    Reason.AS_ANSWER_INVALID: THEIRS_TO_MEND,
    Reason.DEADLINE_EXCEEDED: replace(LATER, retry_after=1),
    Reason.INTERNAL: LATER,
}
BEFORE_THE_MESSAGE = {
    Reason.REQUEST_MALFORMED,
    Reason.HTTP_METHOD_REFUSED,
    Reason.SERVER_UNKNOWN,
    Reason.MESSAGE_MALFORMED,
    Reason.MESSAGE_HEADER_MISMATCH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One provoked denial, and everything that came out anywhere meanwhile."""

    reason: Reason
    answer: Answer
    records: list[dict[str, Any]]
    secrets: list[str]
    audit: str
    logs: str

    @property
    def expected(self) -> Consequence:
        return CONSEQUENCES[self.reason]


async def denial_of(reason: Reason) -> Denial:
    with overheard() as logs:
        async with not_yet_serving() as gateway:
            prepare(gateway, reason)
            async with gateway.serving(clock(gateway, reason)):
                answer = await provoke(gateway, reason)
            return Denial(
                reason=reason,
                answer=answer,
                records=gateway.records(),
                secrets=gateway.secrets(),
                audit=gateway.audit_file.read_text(),
                logs=logs.getvalue(),
            )


@pytest.fixture(scope="module", params=PROVOKED)
def denial(request: pytest.FixtureRequest) -> Iterator[Denial]:
    with pytest.MonkeyPatch.context() as environment:
        for variable, credential in CREDENTIALS.items():
            environment.setenv(variable, credential)
        yield asyncio.run(denial_of(request.param))


def test_every_reason_is_provoked_and_has_its_consequence() -> None:
    assert set(PROVOKED) | NOT_HERE == set(Reason)
    assert set(PROVOKED) == CONSEQUENCES.keys()
    assert len(PROVOKED) == len(set(PROVOKED))


def test_the_reason_is_the_one_that_was_provoked(denial: Denial) -> None:
    assert denial.answer.reason == denial.reason


def test_envoy_is_told_no(denial: Denial) -> None:
    unauthenticated, permission_denied = 16, 7
    response = denial.answer.response

    assert response.WhichOneof("http_response") == "denied_response"
    assert response.status.code == (
        unauthenticated if denial.expected.status == 401 else permission_denied
    )
    assert response.status.message == ""


def test_the_caller_sees_the_status(denial: Denial) -> None:
    assert denial.answer.status == denial.expected.status


def test_the_caller_is_never_sent_back_to_an_old_transport(denial: Denial) -> None:
    assert denial.answer.status not in {200, 400, 404, 405}


def test_only_a_new_sign_in_that_helps_is_asked_for(denial: Denial) -> None:
    challenge = denial.expected.challenge
    metadata = "https://mcp.corp.example/.well-known/oauth-protected-resource/crm"

    assert denial.answer.headers.get("www-authenticate") == (
        f'Bearer {challenge}scope="openid", resource_metadata="{metadata}"'
        if challenge is not None
        else None
    )


def test_the_caller_learns_when_to_come_back(denial: Denial) -> None:
    seconds = denial.expected.retry_after

    assert denial.answer.headers.get("retry-after") == (None if seconds is None else str(seconds))


def test_the_body_is_a_json_rpc_error_of_ours(denial: Denial) -> None:
    before = denial.reason in BEFORE_THE_MESSAGE

    assert denial.answer.headers["content-type"] == "application/json"
    assert denial.answer.headers["cache-control"] == "no-store"
    assert denial.answer.body == {
        "jsonrpc": "2.0",
        "id": None if before else 7,
        "error": {
            "code": -32001,
            "message": ANSWERS[denial.reason].text,
            "data": {"reason": denial.reason, "decision_id": denial.answer.decision_id},
        },
    }


def test_the_interlock_learns_the_verdict(denial: Denial) -> None:
    assert denial.answer.metadata["verdict"] == "deny"
    assert denial.answer.metadata["reason"] == denial.reason


def test_exactly_one_record_has_that_decision(denial: Denial) -> None:
    found = [
        record for record in denial.records if record["decision_id"] == denial.answer.decision_id
    ]
    checks = 2 if denial.reason is Reason.SIGN_IN_LOOP else 1

    assert len(denial.records) == checks
    assert len(found) == 1
    assert denial.answer.headers["x-mcp-ext-authz-decision"] == denial.answer.decision_id


def test_the_record_says_why(denial: Denial) -> None:
    record = denial.records[-1]

    assert record["verdict"] == "deny"
    assert record["reason"] == denial.reason
    assert record["http_status"] == denial.expected.status


def test_who_was_denied_is_known_once_they_are_proven(denial: Denial) -> None:
    proven = denial.reason in {*LEG_1, *LEG_2, Reason.SIGN_IN_LOOP, Reason.ID_JAG_INVALID}
    claimed = denial.reason in {*REQUESTS, *TOKENS, Reason.ISSUER_KEYS_UNAVAILABLE}

    if proven:
        assert denial.records[-1]["subject"] == "alice"
    if claimed:
        assert denial.records[-1]["subject"] is None


def test_nothing_that_denies_gives_a_token_away(denial: Denial) -> None:
    assert not denial.answer.response.HasField("ok_response")
    assert denial.records[-1]["token_source"] is None


def test_everything_that_was_logged_was_heard(denial: Denial) -> None:
    """What the next test says of logs would be worth nothing otherwise."""
    assert '"event": "serving"' in denial.logs
    assert "send_request_headers.complete" in denial.logs


def test_no_secret_and_no_providers_word_comes_out_anywhere(denial: Denial) -> None:
    """Not in the answer, not in the audit, not in any library's DEBUG log."""
    answer = denial.answer.response.SerializeToString().decode("utf-8", errors="replace")
    shown = json.loads(json.dumps(denial.answer.metadata))

    for secret in denial.secrets:
        assert secret not in answer
        assert secret not in denial.audit
        assert secret not in denial.logs
        assert secret not in str(shown)


# ---- the two that are told elsewhere, and what has no reason at all


async def test_what_is_not_written_down_is_not_allowed(prepared: Gateway) -> None:
    """ENOSPC for every record."""
    prepared.change(audit=audit_settings("/dev/full"))

    with overheard() as logs:
        async with prepared.serving():
            answer = await prepared.call()

    assert answer.status == 503
    assert answer.reason == Reason.AUDIT_UNAVAILABLE
    assert not answer.response.HasField("ok_response")
    assert '"fault": "/dev/full: No space left on device"' in logs.getvalue()
    assert answer.decision_id in logs.getvalue()


async def test_what_is_denied_and_not_written_down_says_so_too(prepared: Gateway) -> None:
    prepared.change(audit=audit_settings("/dev/full"))

    async with prepared.serving():
        answer = await prepared.call(token=None)

    assert answer.reason == Reason.AUDIT_UNAVAILABLE


async def test_where_even_the_denial_fails_envoy_gets_an_error_without_a_word(
    prepared: Gateway,
) -> None:
    """Grpc would send the exception's text; Envoy denies with `status_on_error`."""
    clock = breaking_clock(prepared.time, where="ext_authz.verdict.trail")

    with overheard() as logs:
        async with prepared.serving(clock):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await prepared.call()

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == ""
    assert '"event": "check_lost"' in logs.getvalue()
    assert PROVIDERS_WORDS not in f"{logs.getvalue()}{caught.value}"


async def test_a_message_that_is_too_large_for_us_is_an_error_and_the_service_lives_on(
    gateway: Gateway,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call(message={"text": "x" * 5_000_000})

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await gateway.call()).is_allow


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"jsonrpc": "2.0", "id": 1, "method": "ping"} {}',
        '{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}',
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "\\ud800"}}',
        "\ufeff{}",
        "9" * 1_000_000,
    ],
    ids=["empty", "null", "deep list", "deep object", "two", "twice", "surrogate", "mark", "long"],
)
async def test_a_body_that_can_be_read_in_two_ways_is_refused_at_once(
    gateway: Gateway, body: str
) -> None:
    answer = await gateway.call(message=body)

    assert answer.reason == Reason.MESSAGE_MALFORMED
    assert len(gateway.records()) == 1
