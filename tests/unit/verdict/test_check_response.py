"""Responses: every one whole, and only one kind that lets a request through."""

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from ext_authz._protos.base_pb2 import HeaderValueOption
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.reasons import Reason
from ext_authz.request.mcp_message import McpMessage, MessageKind, MessageSource
from ext_authz.secret import Secret
from ext_authz.verdict.answers import ANSWERS
from ext_authz.verdict.check_response import check_response, verdict_name
from ext_authz.verdict.trail import Trail
from ext_authz.verdict.verdict import Allow, Deny, Document, Verdict
from tests.unit.trails import (
    ACCESS_TOKEN,
    ALICE,
    CALL,
    CRM,
    DECISION,
    HER_TOKEN,
    USER_TOKEN,
    facts,
    trail,
)

OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
STAGES = ("facts", "server", "message", "user", "token")
WITH_CHALLENGE = [reason for reason in Reason if ANSWERS[reason].challenge is not None]
PARAMETER = r'[a-z_]+="[\x20\x21\x23-\x5b\x5d-\x7e]*"'
CHALLENGE = re.compile(f"Bearer( {PARAMETER}(, {PARAMETER})*)?")

text = st.text(st.characters(codec="utf-8"))
some_token = st.builds(
    replace,
    st.just(HER_TOKEN),
    issuer=st.sampled_from([ALICE.issuer, "https://elsewhere.example"]),
    subject=st.sampled_from(["alice", "mallory"]),
    resource=st.sampled_from([CRM.resource, "https://wiki.corp.example/mcp"]),
)
some_message = st.builds(
    McpMessage,
    kind=st.sampled_from(MessageKind),
    source=st.sampled_from(MessageSource),
    method=st.none() | text,
    target=st.none() | text,
    rpc_id=st.none() | text | st.integers(-(2**53) + 1, 2**53 - 1),
)
some_verdict = (
    st.builds(Allow, token=some_token)
    | st.builds(
        Deny,
        reason=st.sampled_from(Reason),
        detail=text,
        retry_after=st.none() | st.integers(0, 600),
    )
    | st.just(Document(body=b"{}"))
)
some_trail = st.builds(
    trail,
    facts=st.sampled_from([None, facts()]),
    server=st.sampled_from([None, CRM]),
    message=st.none() | some_message,
    user=st.sampled_from([None, ALICE]),
    token=st.none() | some_token,
)


def response_to(
    verdict: Verdict, given_trail: Trail | None = None, scopes: tuple[str, ...] = ("openid",)
) -> CheckResponse:
    return check_response(given_trail or trail(), verdict, milliseconds=12.3456, scopes=scopes)


def denial(reason: Reason, given_trail: Trail | None = None, **more: Any) -> CheckResponse:
    return response_to(Deny(reason=reason, **more), given_trail)


def headers_of(response: CheckResponse) -> dict[str, str]:
    """What the caller gets; each header once, replacing what was there."""
    options = response.denied_response.headers
    assert all(option.append_action == OVERWRITE for option in options)
    assert len({option.header.key for option in options}) == len(options)
    return {option.header.key: option.header.value for option in options}


def metadata_of(response: CheckResponse) -> dict[str, Any]:
    return dict(MessageToDict(response.dynamic_metadata))


# ---- an allow


def test_an_allow_puts_the_access_token_in_the_place_of_the_users() -> None:
    response = response_to(Allow(token=HER_TOKEN))
    [header] = response.ok_response.headers

    assert response.status.code == 0
    assert (header.header.key, header.header.value) == ("authorization", f"Bearer {ACCESS_TOKEN}")
    assert header.append_action == OVERWRITE
    assert not header.HasField("append")  # Envoy goes by it where it is there
    assert header.header.raw_value == b""  # Envoy ignores `value` where it is there
    assert not response.HasField("denied_response")


def test_an_allow_tells_the_client_its_decision_id() -> None:
    [header] = response_to(Allow(token=HER_TOKEN)).ok_response.response_headers_to_add

    assert (header.header.key, header.header.value) == ("x-mcp-ext-authz-decision", DECISION)


def test_an_allow_removes_headers_and_never_the_one_it_sets() -> None:
    removed = response_to(Allow(token=HER_TOKEN)).ok_response.headers_to_remove

    assert "cookie" in removed
    assert "authorization" not in removed


@pytest.mark.parametrize("missing", ["facts", "user", "server"])
def test_there_is_no_allow_before_every_stage_has_passed(missing: str) -> None:
    with pytest.raises(ValueError, match="without"):
        response_to(Allow(token=HER_TOKEN), trail(**{missing: None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "mallory"},
        {"subject": "Alice"},
        {"subject": ""},
        {"issuer": "https://elsewhere.example"},
        {"issuer": ALICE.issuer + "/"},
    ],
)
def test_there_is_no_allow_with_somebody_elses_token(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="somebody else") as error:
        response_to(Allow(token=replace(HER_TOKEN, **changes)))

    assert ACCESS_TOKEN not in str(error.value)


@pytest.mark.parametrize("resource", ["https://wiki.corp.example/mcp", CRM.resource + "/", ""])
def test_there_is_no_allow_with_another_servers_token(resource: str) -> None:
    with pytest.raises(ValueError, match="another server"):
        response_to(Allow(token=replace(HER_TOKEN, resource=resource)))


def test_there_is_no_allow_without_a_token() -> None:
    with pytest.raises(TypeError):
        Allow()  # type: ignore[call-arg]


# ---- every response


@given(some_trail, some_verdict)
def test_a_request_passes_only_with_our_token_and_our_word(drawn: Trail, verdict: Verdict) -> None:
    try:
        response = response_to(verdict, drawn)
    except ValueError:
        assert isinstance(verdict, Allow)
        return
    overwritten = [option.header.key for option in response.ok_response.headers]
    passes = response.status.code == 0

    assert passes is isinstance(verdict, Allow)
    assert passes is (overwritten == ["authorization"])
    assert passes is (metadata_of(response)["verdict"] == "allow")
    assert passes is response.HasField("ok_response")
    assert passes is not response.HasField("denied_response")
    assert passes is (ACCESS_TOKEN.encode() in response.SerializeToString())
    assert USER_TOKEN.encode() not in response.SerializeToString()


@given(some_trail, st.sampled_from(Reason))
def test_every_denial_is_json_rpc_whatever_the_trail_holds(drawn: Trail, reason: Reason) -> None:
    body = orjson.loads(denial(reason, drawn).denied_response.body)

    assert body == {
        "jsonrpc": "2.0",
        "id": drawn.message.rpc_id if drawn.message else None,
        "error": {
            "code": -32001,
            "message": ANSWERS[reason].text,
            "data": {"reason": reason.value, "decision_id": DECISION},
        },
    }


# ---- a denial


@pytest.mark.parametrize("reason", Reason)
def test_a_denial_has_the_status_of_its_reason(reason: Reason) -> None:
    response = denial(reason)

    assert response.denied_response.status.code == ANSWERS[reason].status
    assert response.status.code == (16 if ANSWERS[reason].status == 401 else 7)


@pytest.mark.parametrize("reason", Reason)
def test_a_denial_has_these_headers_and_no_others(reason: Reason) -> None:
    headers = headers_of(denial(reason))
    challenge = headers.pop("www-authenticate", None)
    retry_after = headers.pop("retry-after", None)

    assert (challenge is None) is (ANSWERS[reason].challenge is None)
    assert retry_after == (
        str(ANSWERS[reason].retry_after) if ANSWERS[reason].retry_after else None
    )
    assert headers == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-mcp-ext-authz-decision": DECISION,
        "x-mcp-ext-authz-reason": reason.value,
    }


@pytest.mark.parametrize("reason", Reason)
def test_a_denial_shows_no_token_and_no_detail(reason: Reason) -> None:
    shown = denial(reason, detail="the operator's words").SerializeToString()

    assert USER_TOKEN.encode() not in shown
    assert ACCESS_TOKEN.encode() not in shown
    assert b"operator" not in shown


@pytest.mark.parametrize(("named", "shown"), [(600, "600"), (1, "1"), (0, "30"), (None, "30")])
def test_a_provider_may_name_its_own_time_to_come_back(named: int | None, shown: str) -> None:
    response = denial(Reason.AS_RATE_LIMITED, retry_after=named)

    assert headers_of(response)["retry-after"] == shown


@pytest.mark.parametrize("rpc_id", ['"},{"x":"', "\n\0", "\u2028é\U0001f600", "", 0, 2**53 - 1])
def test_an_id_cannot_break_out_of_the_body(rpc_id: str | int) -> None:
    response = denial(Reason.INTERNAL, trail(message=replace(CALL, rpc_id=rpc_id)))

    assert orjson.loads(response.denied_response.body)["id"] == rpc_id


# ---- the challenge of a 401


def challenge_of(reason: Reason, given_trail: Trail, scopes: tuple[str, ...] = ()) -> str:
    response = response_to(Deny(reason=reason), given_trail, scopes)
    return headers_of(response)["www-authenticate"]


METADATA = (
    'resource_metadata="https://mcp.corp.example/.well-known/oauth-protected-resource/crm/mcp"'
)


def test_a_missing_token_is_no_error() -> None:
    challenge = challenge_of(Reason.TOKEN_MISSING, trail(), ("email", "openid"))

    assert challenge == f'Bearer scope="email openid", {METADATA}'


def test_a_refused_token_is_an_error() -> None:
    challenge = challenge_of(Reason.TOKEN_EXPIRED, trail(), ("openid",))

    assert challenge == f'Bearer error="invalid_token", scope="openid", {METADATA}'


def test_a_stronger_sign_in_is_asked_for_by_name() -> None:
    challenge = challenge_of(Reason.STEP_UP_REQUIRED, trail())

    assert challenge == f'Bearer error="insufficient_user_authentication", {METADATA}'


def test_a_challenge_with_nothing_to_say_is_the_scheme_alone() -> None:
    assert challenge_of(Reason.TOKEN_MISSING, trail(server=None)) == "Bearer"


@pytest.mark.parametrize("reason", WITH_CHALLENGE)
@pytest.mark.parametrize("server", [None, CRM])
@pytest.mark.parametrize("scopes", [(), ("openid",), ("a", "b")])
def test_a_challenge_is_well_formed(reason: Reason, server: Any, scopes: tuple[str, ...]) -> None:
    assert CHALLENGE.fullmatch(challenge_of(reason, trail(server=server), scopes))


# ---- a document


def test_a_document_is_served_and_reaches_no_server() -> None:
    response = response_to(Document(body=b'{"resource":"x"}'))

    assert response.status.code == 7
    assert response.denied_response.status.code == 200
    assert response.denied_response.body == '{"resource":"x"}'
    assert headers_of(response) == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-mcp-ext-authz-decision": "01a1b2c3d4e500000000000000000000",
        "access-control-allow-origin": "*",
    }


# ---- metadata, for the interlock and the access log


def test_an_allow_is_told_to_the_interlock_and_the_access_log() -> None:
    assert metadata_of(response_to(Allow(token=HER_TOKEN))) == {
        "verdict": "allow",
        "decision_id": DECISION,
        "server": "crm",
        "issuer": "https://idp.corp.example",
        "subject": "alice",
        "mcp_method": "tools/call",
        "mcp_target": "create_ticket",
        "token_source": "exchange",
        "milliseconds": 12.346,
    }


def test_so_is_a_denial_with_its_reason_and_what_is_known() -> None:
    nothing_yet = trail(**dict.fromkeys(STAGES))

    assert metadata_of(denial(Reason.TOKEN_EXPIRED, nothing_yet)) == {
        "verdict": "deny",
        "reason": "token_expired",
        "decision_id": DECISION,
        "milliseconds": 12.346,
    }


@pytest.mark.parametrize(
    ("verdict", "name"),
    [
        (Allow(token=HER_TOKEN), "allow"),
        (Deny(reason=Reason.INTERNAL), "deny"),
        (Document(body=b"{}"), "document"),
    ],
)
def test_a_verdict_has_one_name_everywhere(verdict: Verdict, name: str) -> None:
    assert verdict_name(verdict) == metadata_of(response_to(verdict))["verdict"] == name


def test_a_long_text_is_cut_in_the_metadata() -> None:
    message = replace(CALL, target="x" * 2048)

    metadata = metadata_of(response_to(Allow(token=HER_TOKEN), trail(message=message)))
    assert metadata["mcp_target"] == "x" * 256


def test_what_would_steer_a_terminal_is_in_the_metadata_as_its_escapes() -> None:
    message = replace(CALL, target="x\u009b2J\u202e\x7f")

    metadata = metadata_of(response_to(Allow(token=HER_TOKEN), trail(message=message)))
    assert metadata["mcp_target"].isprintable()
    assert metadata["mcp_target"] == "x\\u009b2J\\u202e\\u007f"


def test_a_name_in_another_script_is_in_the_metadata_as_it_is() -> None:
    message = replace(CALL, target="erstelle_störung_日本")

    metadata = metadata_of(response_to(Allow(token=HER_TOKEN), trail(message=message)))
    assert metadata["mcp_target"] == "erstelle_störung_日本"


@pytest.mark.parametrize(
    "message", [replace(CALL, method=USER_TOKEN), replace(CALL, target=f"file:///{USER_TOKEN}")]
)
def test_a_token_in_the_message_does_not_reach_the_access_log(message: McpMessage) -> None:
    response = response_to(Allow(token=HER_TOKEN), trail(message=message))

    assert USER_TOKEN not in str(metadata_of(response))


def test_a_verdict_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Allow(token=HER_TOKEN).token = replace(HER_TOKEN, value=Secret("x"))  # type: ignore[misc]
