"""Bytes that are no CheckRequest: denied and recorded, and nothing of protobuf's said to the peer."""

import pytest

from bench.load import METHOD, Ask
from ext_authz._protos.external_auth_pb2 import CheckResponse
from ext_authz.reasons import Reason
from tests.pipeline.gateway import Answer, Gateway


@pytest.mark.parametrize(
    "message",
    [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a\x05", b"not protobuf", b"\x07" * 100],
    ids=["a lone byte", "a length beyond the end", "torn", "words", "a wire type of no kind"],
)
async def test_what_cannot_be_read_is_a_malformed_request(gateway: Gateway, message: bytes) -> None:
    ask: Ask = gateway.channel.unary_unary(METHOD)

    answer = Answer(CheckResponse.FromString(await ask(message, timeout=30)))

    assert answer.reason == Reason.REQUEST_MALFORMED
    assert [record["reason"] for record in gateway.records()] == [Reason.REQUEST_MALFORMED]
