"""A CheckResponse as Envoy takes it: what counts is what it does, not what we meant."""

from typing import Any

from google.protobuf.json_format import MessageToDict

from ext_authz._protos.base_pb2 import HeaderValueOption
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.reasons import Reason
from ext_authz.verdict.answers import ANSWERS


def allows(response: CheckResponse) -> bool:
    """Whether the request goes on: threat A2.

    It does if and only if `Authorization` is overwritten, and the interlock is told the same.
    """
    goes_on = response.status.code == 0
    assert goes_on == response.HasField("ok_response") == overwrites_authorization(response)
    assert goes_on == (metadata(response)["verdict"] == "allow")
    assert goes_on != response.HasField("denied_response")
    return goes_on


def overwrites_authorization(response: CheckResponse) -> bool:
    return any(
        option.header.key == "authorization"
        and option.append_action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        and len(option.header.value) > len("Bearer ")
        for option in response.ok_response.headers
    )


def bearer(response: CheckResponse) -> str:
    """The one token that an allow puts in place of the user's."""
    (option,) = response.ok_response.headers
    return option.header.value.removeprefix("Bearer ")


def reason(response: CheckResponse) -> Reason:
    """Why it is denied: one of the table, with its status, and the same wherever it stands."""
    headers = {h.header.key: h.header.value for h in response.denied_response.headers}
    found = Reason(headers["x-mcp-ext-authz-reason"])
    assert metadata(response)["reason"] == found
    assert response.denied_response.status.code == ANSWERS[found].status
    return found


def metadata(response: CheckResponse) -> dict[str, Any]:
    return MessageToDict(response.dynamic_metadata)
