"""Nothing passes without our whole word for it, whatever answers in the service's place."""

import pytest

from ext_authz._protos.base_pb2 import HeaderValue, HeaderValueOption
from ext_authz._protos.external_auth_pb2 import CheckResponse, DeniedHttpResponse, OkHttpResponse
from ext_authz._protos.http_status_pb2 import HttpStatus
from ext_authz._protos.rpc_status_pb2 import Status
from ext_authz.demo.front import Front
from tests.envoy.fronts import envoy
from tests.envoy.mcp_call import call
from tests.envoy.recorder import Recorder
from tests.envoy.rogue import rogue_service

OK = Status(code=0)


def ok_response() -> OkHttpResponse:
    header = HeaderValueOption(header=HeaderValue(key="authorization", value="Bearer theirs"))
    return OkHttpResponse(headers=[header])


def with_verdict(verdict: str) -> CheckResponse:
    response = CheckResponse(status=OK, ok_response=ok_response())
    response.dynamic_metadata.update({"verdict": verdict})
    return response


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(CheckResponse(), id="empty"),
        pytest.param(CheckResponse(status=OK), id="OK and no more"),
        pytest.param(
            CheckResponse(
                status=OK, denied_response=DeniedHttpResponse(status=HttpStatus(code=403))
            ),
            id="OK with a denial",
        ),
        pytest.param(CheckResponse(status=OK, ok_response=ok_response()), id="OK without metadata"),
        pytest.param(with_verdict("deny"), id="OK that says deny"),
        pytest.param(with_verdict("document"), id="OK that says document"),
        pytest.param(with_verdict("allowed"), id="OK that says allowed"),
        pytest.param(with_verdict(""), id="OK that says nothing"),
    ],
)
async def test_an_answer_that_is_no_whole_allow_is_a_403(
    own_front: Front, recorder: Recorder, alice: str, response: CheckResponse
) -> None:
    async with (
        rogue_service(own_front.folder / "check.sock", response.SerializeToString()),
        envoy(own_front),
    ):
        answer = await call(own_front.server_url("crm"), alice)

    assert answer.status_code == 403
    assert recorder.heard == []


async def test_an_answer_that_is_no_check_response_is_a_503(
    own_front: Front, recorder: Recorder, alice: str
) -> None:
    async with (
        rogue_service(own_front.folder / "check.sock", b"\xff no protobuf"),
        envoy(own_front),
    ):
        answer = await call(own_front.server_url("crm"), alice)

    assert answer.status_code == 503
    assert answer.json()["error"]["data"] == {"reason": "service_unavailable"}
    assert recorder.heard == []


async def test_a_whole_allow_goes_through(own_front: Front, recorder: Recorder, alice: str) -> None:
    response = with_verdict("allow")
    async with (
        rogue_service(own_front.folder / "check.sock", response.SerializeToString()),
        envoy(own_front),
    ):
        answer = await call(own_front.server_url("crm"), alice)

    (heard,) = recorder.heard
    assert answer.status_code == 200
    assert heard.headers["authorization"] == ("Bearer theirs",)
