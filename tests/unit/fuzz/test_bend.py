"""CheckRequests bent a text at a time stay CheckRequests."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ext_authz._protos.external_auth_pb2 import CheckRequest
from fuzz.bend import bent
from fuzz.seeds.check_request import SEEDS


@given(name=st.sampled_from(sorted(SEEDS)), seed=st.integers(0, 2**32), text=st.binary(max_size=20))
def test_a_bent_request_is_still_a_request(name: str, seed: int, text: bytes) -> None:
    CheckRequest.FromString(bent(SEEDS[name].SerializeToString(), lambda _: text, Random(seed)))


def test_every_text_of_a_request_gets_bent_in_turn() -> None:
    data = SEEDS["allowed_headers_raw"].SerializeToString()
    found = {bent(data, lambda text: text + b"!", Random(seed)) for seed in range(200)}

    assert len(found) > 8


def test_what_is_no_request_is_bent_as_a_whole() -> None:
    assert bent(b"\xff", lambda data: data * 2, Random(1)) == b"\xff\xff"
