"""Requests that may pass: with which token, and what is remembered of them."""

import asyncio
from typing import Any

import pytest

from ext_authz import __version__
from ext_authz.audit.canonical import shown
from tests.pipeline.gateway import TOOL_CALL, Gateway, overheard
from tests.unit.check_requests import CLIENT, Encoding


async def test_a_tool_call_passes_with_the_servers_token_in_place_of_the_users(
    gateway: Gateway,
) -> None:
    answer = await gateway.call()

    (token,) = gateway.authorization_server.holders
    assert answer.is_allow
    assert answer.authorization == f"Bearer {token}"
    assert not answer.response.HasField("denied_response")


async def test_the_users_token_goes_nowhere_on(gateway: Gateway) -> None:
    request = gateway.request(headers={"x-also": f"Bearer {gateway.sign_in()}"})

    answer = await gateway.check(request)

    wire = answer.response.SerializeToString()
    assert not any(token.encode() in wire for token in gateway.user_tokens)


async def test_the_access_token_stands_in_one_place_and_no_other_secret_in_any(
    prepared: Gateway,
) -> None:
    with overheard() as logs:
        async with prepared.serving():
            answer = await prepared.call()
            await prepared.call()

    audit = prepared.audit_file.read_bytes()
    wire = answer.response.SerializeToString()
    (access_token,) = prepared.authorization_server.holders
    assert wire.count(access_token.encode()) == 1
    for secret in prepared.secrets():
        assert secret == access_token or secret.encode() not in wire
        assert secret.encode() not in audit
        assert secret not in logs.getvalue()


async def test_the_interlock_learns_the_verdict(gateway: Gateway) -> None:
    answer = await gateway.call()

    milliseconds = answer.metadata.pop("milliseconds")
    assert milliseconds >= 0
    assert answer.metadata == {
        "verdict": "allow",
        "decision_id": answer.decision_id,
        "server": "crm",
        "issuer": gateway.idp.issuer,
        "subject": "alice",
        "mcp_method": "tools/call",
        "mcp_target": "find_ticket",
        "token_source": "exchange",
    }


async def test_the_client_learns_the_decision(gateway: Gateway) -> None:
    answer = await gateway.call()

    (header,) = answer.response.ok_response.response_headers_to_add
    assert (header.header.key, header.header.value) == (
        "x-mcp-ext-authz-decision",
        answer.decision_id,
    )


async def test_headers_that_claim_an_identity_are_taken_away(gateway: Gateway) -> None:
    claims = {"cookie": "a=b", "x_forwarded_user": "root", "x-mcp-ext-authz-reason": "x"}

    answer = await gateway.call(headers={**claims, "x-harmless": "1"})

    removed = set(answer.response.ok_response.headers_to_remove)
    assert removed >= {*claims, "x-forwarded-user", "x-remote-user"}
    assert not removed & {"authorization", "x-harmless", "content-type"}


async def test_the_audit_has_one_whole_record(gateway: Gateway) -> None:
    headers = {
        "x-request-id": "request-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "mcp-protocol-version": "2025-11-25",
    }
    answer = await gateway.call(
        path="/crm/mcp?cursor=1", headers=headers, token=gateway.sign_in(azp="hub")
    )

    (record,) = gateway.records()
    assert record.pop("milliseconds") >= 0
    assert len(record.pop("id_jag_jti")) == 36
    legs = record.pop("legs")
    assert [(leg["leg"], leg["status"], leg["error"]) for leg in legs] == [
        (1, 200, None),
        (2, 200, None),
    ]
    assert record == {
        "time": "2026-11-18T11:06:40.000+00:00",
        "time_ms": gateway.time.now * 1000,
        "is_correction": False,
        "fingerprints": {},
        "decision_id": answer.decision_id,
        "verdict": "allow",
        "reason": None,
        "detail": None,
        "http_status": None,
        "issuer": gateway.idp.issuer,
        "subject": "alice",
        "session": "session-1",
        "agent": "hub",
        "server": "crm",
        "resource": "https://crm.corp.example/mcp",
        "authorization_server": gateway.authorization_server.issuer,
        "mcp_kind": "request",
        "mcp_method": "tools/call",
        "mcp_target": "find_ticket",
        "mcp_source": "body",
        "mcp_protocol_version": "2025-11-25",
        "rpc_id": 7,
        "token_source": "exchange",
        "scope": "tickets.read tickets.write",
        "token_expires_at": gateway.time.now + 600,
        "http_method": "POST",
        "path": "/crm/mcp",
        "source_address": CLIENT,
        "request_id": "request-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "version": __version__,
    }


KINDS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "request": ({"message": TOOL_CALL}, "tools/call", "body"),
    "notification": (
        {"message": {"jsonrpc": "2.0", "method": "notifications/initialized"}},
        "notifications/initialized",
        "body",
    ),
    "response": ({"message": {"jsonrpc": "2.0", "id": 1, "result": {}}}, None, "body"),
    "stream": ({"method": "GET", "message": None}, None, "none"),
    "session_end": ({"method": "DELETE", "message": None}, None, "none"),
    "unknown": ({"message": None}, None, "none"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_message_passes_under_its_name(gateway: Gateway, kind: str) -> None:
    request, method, source = KINDS[kind]

    answer = await gateway.call(**request)

    (record,) = gateway.records()
    assert answer.is_allow
    assert (record["mcp_kind"], record["mcp_method"], record["mcp_source"]) == (
        kind,
        method,
        source,
    )


@pytest.mark.parametrize(
    ("method", "name", "kind"),
    [("tools/call", "find_ticket", "request"), ("notifications/cancelled", None, "notification")],
)
async def test_without_a_body_the_headers_of_a_binding_version_name_the_message(
    gateway: Gateway, method: str, name: str | None, kind: str
) -> None:
    headers = {"mcp-method": method, "mcp-protocol-version": "2026-07-28"}
    if name is not None:
        headers["mcp-name"] = name

    answer = await gateway.call(message=None, headers=headers)

    (record,) = gateway.records()
    assert answer.is_allow
    assert (record["mcp_kind"], record["mcp_target"], record["mcp_source"]) == (
        kind,
        name,
        "header",
    )


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_either_encoding_of_headers_is_read(gateway: Gateway, encoding: Encoding) -> None:
    assert (await gateway.call(encoding=encoding)).is_allow


async def test_a_user_pays_for_one_exchange(gateway: Gateway) -> None:
    answers = [await gateway.call() for _ in range(3)]

    assert len({answer.authorization for answer in answers}) == 1
    assert len({answer.decision_id for answer in answers}) == 3
    assert [record["token_source"] for record in gateway.records()] == [
        "exchange",
        "cache",
        "cache",
    ]
    assert len(gateway.idp.issued) == 1


async def test_calls_at_once_pay_for_one_exchange(gateway: Gateway) -> None:
    answers = await asyncio.gather(*(gateway.call() for _ in range(50)))

    sources = [record["token_source"] for record in gateway.records()]
    assert len({answer.authorization for answer in answers}) == 1
    assert sources.count("exchange") == 1
    assert len(gateway.idp.issued) == 1


async def test_a_warm_cache_opens_for_no_token_that_is_not_good(gateway: Gateway) -> None:
    """Verified before anything is looked up."""
    await gateway.call()
    expired = gateway.sign_in(iat=gateway.time.now - 7200, exp=gateway.time.now - 3600)
    forged = gateway.sign_in()[:-8] + "AAAAAAAA"

    reasons = [(await gateway.call(token=token)).reason for token in (expired, forged)]

    assert reasons == ["token_expired", "token_signature_invalid"]


async def test_users_at_once_get_their_own_tokens(gateway: Gateway) -> None:
    names = [f"user-{number}" for number in range(20)] * 3

    answers = await asyncio.gather(
        *(gateway.call(token=gateway.sign_in(sub=name, sid=name)) for name in names)
    )

    for name, answer in zip(names, answers, strict=True):
        token = answer.authorization.removeprefix("Bearer ")
        assert gateway.authorization_server.holders[token] == name
        assert answer.metadata["subject"] == name


UNICODE = {
    "id": 'größe-\u202e-"\\',
    "name": "wörkzeug\n\x1b[31m\u2028日本",
}


async def test_whatever_unicode_a_message_holds_survives_to_the_audit(gateway: Gateway) -> None:
    call = {
        "jsonrpc": "2.0",
        "id": UNICODE["id"],
        "method": "tools/call",
        "params": {"name": UNICODE["name"]},
    }

    answer = await gateway.call(message=call)

    (record,) = gateway.records()
    assert answer.is_allow
    assert (record["rpc_id"], record["mcp_target"]) == (
        shown(UNICODE["id"]),
        shown(UNICODE["name"]),
    )


async def test_a_message_of_a_megabyte_passes(gateway: Gateway) -> None:
    arguments = {"text": "é" * 500_000}
    call = {**TOOL_CALL, "params": {"name": "import", "arguments": arguments}}

    assert (await gateway.call(message=call)).is_allow
