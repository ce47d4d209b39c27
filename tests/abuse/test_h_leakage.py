"""H. Injection and leakage: what must stay stays, and what goes out is ours."""

import re
from typing import Any

import pytest

from ext_authz.demo.front import Front
from ext_authz.demo.world import World
from ext_authz.exchange.access_token import Source
from ext_authz.reasons import Reason
from ext_authz.request.mcp_message import MessageKind, MessageSource
from ext_authz.verdict.answers import ANSWERS
from tests.abuse.verdicts import Seen, assert_no_allow
from tests.doubles.loopback import PROVIDERS_WORDS, Dial
from tests.envoy.mcp_call import post
from tests.envoy.raw_client import send
from tests.envoy.recorder import Recorder
from tests.envoy.test_user_token_stays import encoded
from tests.envoy.witnessed import reaching
from tests.pipeline.gateway import TOOL_CALL, Gateway, overheard
from tests.pipeline.test_allow import KINDS
from tests.pipeline.test_deny import LEG_1, LEG_2, REQUESTS, TOKENS
from tests.unit.check_requests import CLIENT

PATH = "/crm/mcp"
SPLIT = 'x\r\nset-cookie: a=b\x1b[31m\u009b31m\u2028","verdict":"allow'

# ---- H1: what the authorization server calls an access token


@pytest.mark.parametrize(
    "token",
    [
        "",
        " ",
        "a b",
        "a\r\nx-evil: 1",
        "a\nb",
        "a\x00b",
        "a\tb",
        "a,b",
        "a;b",
        'a"b',
        "größe",
        "a\u2028",
        "=",
        "a=b",
        "Bearer a",
        "x" * 20_000,
        None,
        7,
        ["a"],
        {"a": "b"},
    ],
    ids=lambda token: repr(token)[:20],
)
async def test_h1_an_access_token_that_is_not_fit_for_a_header_is_refused(
    gateway: Gateway, seen: Seen, token: object
) -> None:
    gateway.authorization_server.token.dial = Dial(members={"access_token": token})

    answer = await gateway.call()

    assert_no_allow(gateway, answer)
    assert answer.reason == "as_answer_invalid"
    assert len(gateway.records()) == 1
    seen("deny as_answer_invalid")


# ---- H2: the user token at the MCP server


@pytest.mark.parametrize(
    "line",
    [
        "X-Any: {token}",
        "X-Any: before {encoded} after",
        "Cookie: s={token}",
        "Proxy-Authorization: Bearer {token}",
        "X-Forwarded-Access-Token: {token}",
        "Referer: https://app.example/?t={token}",
        "Mcp-Session-Id: {token}",
        "X-Request-Id: {token}",
        "User-Agent: {token}",
    ],
)
def test_h2_the_user_token_reaches_no_server_in_any_header(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, line: str
) -> None:
    extra = line.format(token=alice, encoded=encoded(alice))
    answer = send(recorded_front.url, post(PATH, alice, extra))

    (heard,) = recorder.heard
    assert answer.status == 200
    assert alice not in heard
    assert encoded(alice) not in heard
    seen("allow, without the user token")


@pytest.mark.parametrize(
    "path", ["{path}?access_token={token}", "{path}/{encoded}", "{path}?a=b&t={encoded}"]
)
def test_h2_a_url_that_holds_the_user_token_is_refused(
    recorded_front: Front, recorder: Recorder, alice: str, seen: Seen, path: str
) -> None:
    path = path.format(path=PATH, token=alice, encoded=encoded(alice))
    answer = send(recorded_front.url, post(path, alice))

    assert (answer.status, answer.reason) == (401, "token_malformed")
    assert recorder.heard == []
    seen("401 token_malformed")


def test_h2_on_a_denial_no_server_hears_of_it_at_all(
    world: World, front: Front, seen: Seen
) -> None:
    bob = world.sign_in("bob")
    with reaching("wiki", world) as notes:
        answer = send(front.url, post("/wiki/mcp", bob))

    assert (answer.status, answer.reason) == (403, "policy_denied")
    assert notes == []
    assert world.user_tokens_seen() == 0
    seen("403 policy_denied")


# ---- H3: canaries


async def test_h3_no_secret_is_anywhere_but_on_its_way_to_its_one_reader(
    prepared: Gateway, seen: Seen
) -> None:
    """Both legs fail in each of their ways, then succeed; everything is heard, down to DEBUG."""
    with overheard() as logs:
        async with prepared.serving():
            answers = []
            for endpoint, dials in (
                (prepared.idp.token, LEG_1),
                (prepared.authorization_server.token, LEG_2),
            ):
                for reason, dial in dials.items():
                    if reason is Reason.DEADLINE_EXCEEDED:
                        continue
                    endpoint.dial = dial
                    token = prepared.sign_in(sub=reason.value, sid=reason.value)
                    answers.append(await prepared.call(token=token))
                endpoint.dial = Dial()
            allowed = await prepared.call()

    assert allowed.is_allow
    assert "send_request_headers.complete" in logs.getvalue()
    for answer in answers:
        assert_no_allow(prepared, answer)
    for secret in prepared.secrets():
        assert secret not in logs.getvalue()
        assert secret not in prepared.audit_file.read_text()
    seen("no canary anywhere")


# ---- H4: what the client reads


@pytest.mark.parametrize("reason", [*REQUESTS, *TOKENS])
async def test_h4_a_denials_body_is_a_code_and_a_decision_id(
    gateway: Gateway, seen: Seen, reason: Reason
) -> None:
    request = REQUESTS.get(reason) or {"token": TOKENS[reason](gateway)}

    answer = await gateway.call(**request)

    assert answer.reason == reason
    assert answer.body["error"] == {
        "code": -32001,
        "message": ANSWERS[reason].text,
        "data": {"reason": reason, "decision_id": answer.decision_id},
    }
    assert answer.headers.keys() <= {
        "content-type",
        "cache-control",
        "www-authenticate",
        "retry-after",
        "x-mcp-ext-authz-decision",
        "x-mcp-ext-authz-reason",
    }
    seen("code and decision id")


# ---- H5: injection

CARRIERS: dict[str, dict[str, Any]] = {
    "tool": {"message": {**TOOL_CALL, "params": {"name": SPLIT}}},
    "method": {"message": {**TOOL_CALL, "method": SPLIT}},
    "id": {"message": {**TOOL_CALL, "id": SPLIT}},
    "path": {"path": f"/crm/{SPLIT}"},
    "host": {"host": SPLIT},
    "HTTP method": {"method": SPLIT},
    "query": {"path": f"/crm?{SPLIT}"},
    "request id": {"headers": {"x-request-id": SPLIT.replace("\r\n", "")}},
    "trace": {"headers": {"traceparent": "=cmd|' /C calc'!A0"}},
    "name of a header": {"headers": {SPLIT: "x"}},
    "route": {"extensions": {"mcp.server": SPLIT}},
}


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_h5_nothing_that_a_client_sends_breaks_a_line_or_steers_a_terminal(
    prepared: Gateway, seen: Seen, carrier: str
) -> None:
    """Decided: `=cmd` stays as it is. The log is JSON; who makes a spreadsheet of it must quote."""
    with overheard() as logs:
        async with prepared.serving():
            answer = await prepared.call(**CARRIERS[carrier])

    (record,) = prepared.records()
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in prepared.audit_file.read_bytes())
    assert record["verdict"] == answer.metadata["verdict"]
    assert "set-cookie: a=b" not in logs.getvalue()
    seen("one printable line")


async def test_h5_a_subject_that_breaks_lines_is_refused(gateway: Gateway, seen: Seen) -> None:
    answer = await gateway.call(token=gateway.sign_in(sub=SPLIT))

    assert_no_allow(gateway, answer)
    assert answer.reason == "token_claims_invalid"
    seen("deny token_claims_invalid")


# ---- H6: what is counted by


async def test_h6_whatever_a_client_sends_the_words_to_count_by_are_from_closed_sets(
    gateway: Gateway, seen: Seen
) -> None:
    """There are no metrics yet; these are the fields that labels can be made of."""
    requests = [*CARRIERS.values(), *REQUESTS.values()]
    requests += [request for request, _, _ in KINDS.values()]
    for request in requests:
        await gateway.call(**request)

    closed: dict[str, set[object]] = {
        "verdict": {"allow", "deny", "document", "abandoned"},
        "reason": {None, *Reason},
        "mcp_kind": {None, *MessageKind},
        "mcp_source": {None, *MessageSource},
        "token_source": {None, *Source},
        "server": {None, "crm", "wiki"},
        "source_address": {None, CLIENT},
    }
    for record in gateway.records():
        for name, words in closed.items():
            assert record[name] in words
    assert len(gateway.records()) == len(requests)
    seen("closed sets in the record; no metrics yet")


# ---- H7: challenges


async def test_h7_a_challenge_says_nothing_of_what_the_client_or_a_provider_said(
    gateway: Gateway, seen: Seen
) -> None:
    said = '", error="evil'
    gateway.idp.token.dial = Dial(
        error="insufficient_user_authentication",
        members={
            "error_description": PROVIDERS_WORDS,
            "error_uri": "https://evil.example",
            "scope": said,
            "acr_values": said,
            "max_age": said,
            "resource_metadata": "https://evil.example",
        },
        headers={"www-authenticate": f'Bearer realm="{said}"'},
    )
    headers = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "evil"}

    answers = [
        await gateway.call(host="evil.example", path="/evil", headers=headers),
        await gateway.call(token=None, host="evil.example", path="/evil", headers=headers),
    ]

    ours = 'resource_metadata="https://mcp.corp.example/.well-known/oauth-protected-resource/crm"'
    for answer in answers:
        assert ours in answer.headers["www-authenticate"]
        assert "evil" not in str(answer.headers) + str(answer.body)
    seen("401, our own words")


def test_h7_through_envoy_a_challenge_leads_to_our_own_metadata(front: Front, seen: Seen) -> None:
    lines = ["X-Forwarded-Host: evil.example", "Forwarded: host=evil.example"]
    answer = send(front.url, post(PATH, "", *lines, host="evil.example"))

    found = re.search('resource_metadata="([^"]+)"', answer.headers["www-authenticate"])
    assert found is not None
    assert found[1] == f"{front.url}/.well-known/oauth-protected-resource/crm/mcp"
    assert "evil" not in str(answer)
    seen("401, our own words")


async def test_h7_a_provider_can_tell_the_client_when_to_come_back_and_no_more(
    gateway: Gateway, seen: Seen
) -> None:
    waits = ["7", "-1", "1e9", "Wed, 21 Oct 2099 07:28:00 GMT", "7\u00b2", "99999999999", SPLIT[:1]]
    for wait in waits:
        gateway.idp.token.dial = Dial(status=429, headers={"retry-after": wait})
        answer = await gateway.call(token=gateway.sign_in(sub=wait[:3], sid=wait[:3]))
        assert 0 < int(answer.headers["retry-after"]) <= 600
    seen("a number of seconds, at most 600")
