"""One id joins everything: the answer, Envoy's access log and the audit."""

import re

import pytest

from ext_authz.demo.front import Front
from tests.envoy.logs import access_log_line, audit_record
from tests.envoy.mcp_call import call

DECISION = "x-mcp-ext-authz-decision"


@pytest.mark.parametrize("server", ["crm", "wiki"])
async def test_an_allowed_call_has_one_id_in_answer_access_log_and_audit(
    front: Front, alice: str, server: str
) -> None:
    answer = await call(front.server_url(server), alice)

    decision_id = answer.headers[DECISION]
    record = audit_record(front, decision_id)
    line = access_log_line(front, decision_id)
    authz = line["authz"]
    assert answer.status_code == line["status"] == 200
    assert re.fullmatch("[0-9a-f]{32}", decision_id)
    assert authz["verdict"] == record["verdict"] == "allow"
    assert authz["server"] == record["server"] == line["route"] == server
    assert authz["subject"] == record["subject"] == "00u-alice"
    assert authz["mcp_method"] == record["mcp_method"] == "tools/call"
    assert authz["mcp_target"] == record["mcp_target"] == "whoami"
    assert authz["token_source"] == record["token_source"] == "exchange"
    assert line["request_id"] == record["request_id"]
    assert (line["details"], line["path"]) == ("via_upstream", f"/{server}/mcp")


async def test_so_has_a_denied_call_and_in_its_body_too(front: Front) -> None:
    answer = await call(front.server_url("crm"))

    decision_id = answer.headers[DECISION]
    record = audit_record(front, decision_id)
    line = access_log_line(front, decision_id)
    authz = line["authz"]
    assert answer.json()["error"]["data"]["decision_id"] == decision_id
    assert answer.status_code == line["status"] == record["http_status"] == 401
    assert authz["verdict"] == record["verdict"] == "deny"
    assert authz["reason"] == record["reason"] == "token_missing"
    assert authz["server"] == record["server"] == line["route"] == "crm"
    assert (line["details"], line["flags"]) == ("ext_authz_denied", "UAEX")


async def test_no_two_calls_have_the_same_id(front: Front, alice: str) -> None:
    answers = [await call(front.server_url("crm"), alice) for _ in range(3)]

    assert len({answer.headers[DECISION] for answer in answers}) == 3


async def test_no_token_stands_in_any_log(front: Front, alice: str) -> None:
    """Every JWT begins with `eyJ`, the base64url of a brace and a quote."""
    url = front.server_url("crm")
    await call(url, alice, x_request_id=alice, traceparent=alice, user_agent=alice)
    await call(f"{url}/{alice}?access_token={alice}", alice)
    last = await call(url, alice)

    assert access_log_line(front, last.headers[DECISION])
    for file in front.folder.iterdir():
        if file.is_file():
            assert b"eyJ" not in file.read_bytes(), file.name
