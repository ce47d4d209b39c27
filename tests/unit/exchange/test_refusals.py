"""What a no at either leg means: a refusal, an outage, a defect, each in the leg's own words."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ext_authz.exchange import refusals
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.outbound import MAX_ANSWER_BYTES, MAX_RETRY_AFTER_SECONDS, Outbound
from ext_authz.reasons import Denied, Reason
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import AuthMethod
from tests.doubles.authorization_server import AuthorizationServer
from tests.doubles.hub import Hub
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import PROVIDERS_WORDS, Dial, Endpoint
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.registrations import HUB, HUB_AT_SERVER, client

LEG_1 = {
    "invalid_grant": Reason.SUBJECT_TOKEN_REFUSED,
    "invalid_request": Reason.SUBJECT_TOKEN_REFUSED,
    "insufficient_user_authentication": Reason.STEP_UP_REQUIRED,
    "interaction_required": Reason.STEP_UP_REQUIRED,
    "access_denied": Reason.POLICY_DENIED,
    "invalid_target": Reason.POLICY_DENIED,
    "unauthorized_client": Reason.POLICY_DENIED,
    "invalid_scope": Reason.SCOPE_DENIED,
    "invalid_client": Reason.HUB_CLIENT_REFUSED,
    "unsupported_grant_type": Reason.HUB_CLIENT_REFUSED,
    "unsupported_token_type": Reason.HUB_CLIENT_REFUSED,
}
LEG_2 = {
    "invalid_grant": Reason.ID_JAG_REFUSED,
    "invalid_target": Reason.RESOURCE_REFUSED,
    "access_denied": Reason.USER_NOT_PROVISIONED,
    "invalid_scope": Reason.SCOPE_DENIED,
    "invalid_client": Reason.SERVER_CLIENT_REFUSED,
    "unauthorized_client": Reason.SERVER_CLIENT_REFUSED,
    "unsupported_grant_type": Reason.SERVER_CLIENT_REFUSED,
    "invalid_request": Reason.SERVER_CLIENT_REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One leg with its endpoint, and what its endpoint's faults are called."""

    hub: Hub
    user: VerifiedUser
    endpoint: Endpoint
    unavailable: Reason
    rate_limited: Reason
    invalid: Reason

    async def denied(self, dial: Dial) -> Denied:
        self.endpoint.dial = dial
        return await denial(self.hub.token_for(self.user))


@pytest.fixture(params=["leg 1", "leg 2"])
def leg(
    request: pytest.FixtureRequest,
    hub: Hub,
    alice: VerifiedUser,
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
) -> Leg:
    if request.param == "leg 1":
        return Leg(
            hub=hub,
            user=alice,
            endpoint=idp.token,
            unavailable=Reason.IDP_UNAVAILABLE,
            rate_limited=Reason.IDP_RATE_LIMITED,
            invalid=Reason.IDP_ANSWER_INVALID,
        )
    return Leg(
        hub=hub,
        user=alice,
        endpoint=authorization_server.token,
        unavailable=Reason.AS_UNAVAILABLE,
        rate_limited=Reason.AS_RATE_LIMITED,
        invalid=Reason.AS_ANSWER_INVALID,
    )


# ---- refusals by code


def test_the_tables_have_no_row_that_is_not_tested() -> None:
    assert dict(refusals.LEG_1) == LEG_1
    assert dict(refusals.LEG_2) == LEG_2


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(("code", "reason"), LEG_1.items())
async def test_what_the_identity_provider_refuses_is_told_by_its_code(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, code: str, reason: Reason, status: int
) -> None:
    idp.token.dial = Dial(error=code, status=status)

    denied = await denial(hub.leg_1(alice))

    assert denied.reason is reason
    assert denied.detail == f"{code}, status {status}"


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(("code", "reason"), LEG_2.items())
async def test_what_the_server_refuses_is_told_by_its_code(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    code: str,
    reason: Reason,
    status: int,
) -> None:
    authorization_server.token.dial = Dial(error=code, status=status)

    denied = await denial(hub.leg_2(await hub.leg_1(alice)))

    assert denied.reason is reason
    assert denied.detail == f"{code}, status {status}"


@pytest.mark.parametrize("code", ["use_dpop_nonce", "server_error", "a", "x" * 64])
async def test_a_code_that_no_table_has_is_an_invalid_answer(leg: Leg, code: str) -> None:
    denied = await leg.denied(Dial(error=code))

    assert denied.reason is leg.invalid
    assert denied.detail == f"{code}, status 400"


@pytest.mark.parametrize(
    "code",
    ["", "Invalid_Grant", "invalid grant", "invalid_grant\n", "<b>", "1nvalid", "ü", "x" * 65],
)
async def test_a_code_of_another_alphabet_is_not_repeated(leg: Leg, code: str) -> None:
    denied = await leg.denied(Dial(error=code))

    assert denied.reason is leg.invalid
    assert denied.detail == "no error code, status 400"


NO_CODES = {
    "nothing": Dial(status=400, body=b""),
    "a page": Dial(status=403, body=b"<html>invalid_grant</html>"),
    "a list": Dial(status=400, body=b'["invalid_grant"]'),
    "a code that is none": Dial(error="x", members={"error": ["invalid_grant"]}),
    "two codes": Dial(status=400, body=b'{"error": "invalid_grant", "error": "access_denied"}'),
    "no body to 401": Dial(status=401, body=b""),
    "created": Dial(status=201),
    "no content": Dial(status=204, body=b""),
}


@pytest.mark.parametrize("dial", NO_CODES.values(), ids=NO_CODES)
async def test_a_no_without_a_code_is_an_invalid_answer(leg: Leg, dial: Dial) -> None:
    denied = await leg.denied(dial)

    assert denied.reason is leg.invalid
    assert denied.detail == f"no error code, status {dial.status or 400}"


async def test_a_providers_words_stay_with_us(leg: Leg) -> None:
    for dial in (
        Dial(error="access_denied"),
        Dial(error="invalid_request", status=401),
        Dial(status=500, error="server_error"),
        Dial(body=PROVIDERS_WORDS.encode()),
    ):
        denied = await leg.denied(dial)

        assert PROVIDERS_WORDS not in f"{denied!r} {denied.detail}"


# ---- outages

OUTAGES = {
    "500": (Dial(status=500), "status 500"),
    "502 and a page": (Dial(status=502, body=b"<html>Bad gateway</html>"), "status 502"),
    "503 and a code": (Dial(status=503, error="invalid_grant"), "status 503"),
    "half an answer": (Dial(cut=True), "broken answer"),
    "too much": (Dial(members={"padding": "x" * MAX_ANSWER_BYTES}), "too large"),
    "compressed": (Dial(headers={"content-encoding": "gzip"}), "compressed"),
    "no HTTP": (Dial(headers={"content-length": "many"}), "broken answer"),
    **{
        f"redirect {status}": (Dial(status=status, headers={"location": "/token"}), "redirected")
        for status in (301, 302, 303, 307, 308)
    },
}


@pytest.mark.parametrize(("dial", "fault"), OUTAGES.values(), ids=OUTAGES)
async def test_an_endpoint_without_a_usable_answer_is_unavailable(
    leg: Leg, dial: Dial, fault: str
) -> None:
    """And is asked once: what it may have received is not sent again, and nowhere else."""
    denied = await leg.denied(dial)

    assert denied.reason is leg.unavailable
    assert denied.detail == fault
    assert len(leg.endpoint.calls) == 1


async def test_an_answer_in_drops_is_an_outage_in_time(leg: Leg, outbound: Outbound) -> None:
    """A byte a moment resets every timeout but the total one."""
    outbound._seconds = 0.2

    denied = await leg.denied(Dial(dribble=0.02))

    assert denied.reason is leg.unavailable
    assert denied.detail == "timed out"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b"{", b'{"a": 1, "a": 2}', b"\xff", b"null"], ids=repr
)
async def test_a_yes_that_cannot_be_read_is_an_invalid_answer(leg: Leg, body: bytes) -> None:
    assert (await leg.denied(Dial(body=body))).reason is leg.invalid


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "86400"}, MAX_RETRY_AFTER_SECONDS),
        ({"retry-after": "99999999"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 00:00:00 GMT"}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_provider_may_say_when_to_come_back(
    leg: Leg, status: int, header: dict[str, str], seconds: int | None
) -> None:
    denied = await leg.denied(Dial(status=status, headers=header))

    assert denied.reason is (leg.rate_limited if status == 429 else leg.unavailable)
    assert denied.retry_after == seconds


async def test_a_provider_that_is_not_there_is_unavailable(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider
) -> None:
    await idp.server.__aexit__()

    denied = await denial(hub.leg_1(alice))

    assert denied.reason is Reason.IDP_UNAVAILABLE
    assert denied.detail == "could not connect"


# ---- metadata


@pytest.mark.parametrize(
    ("dial", "reason"),
    [
        (Dial(status=404), Reason.IDP_UNAVAILABLE),
        (Dial(members={"issuer": "https://evil.example"}), Reason.IDP_ANSWER_INVALID),
        (Dial(members={"token_endpoint": None}), Reason.IDP_ANSWER_INVALID),
        (Dial(members={"token_endpoint": "http://169.254.169.254/"}), Reason.IDP_UNAVAILABLE),
        (Dial(members={"token_endpoint": "http://idp.example/token"}), Reason.IDP_UNAVAILABLE),
        (Dial(members={"token_endpoint": "http://[bad"}), Reason.IDP_UNAVAILABLE),
    ],
)
async def test_leg_1_goes_nowhere_without_good_metadata(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, dial: Dial, reason: Reason
) -> None:
    idp.metadata.dial = dial

    assert (await denial(hub.leg_1(alice))).reason is reason
    assert idp.token.calls == []


BAD_METADATA: dict[str, dict[str, object]] = {
    "another issuer": {"issuer": "https://evil.example"},
    "the issuer and a slash": {"issuer": "ISSUER/"},
    "no issuer": {"issuer": None},
    "no endpoint": {"token_endpoint": None},
    "an endpoint that is none": {"token_endpoint": ["ISSUER/token"]},
    "an endpoint elsewhere": {"token_endpoint": "https://evil.example/token"},
    "an endpoint on another port": {"token_endpoint": "http://127.0.0.1:1/token"},
    "an endpoint of another scheme": {"token_endpoint": "https://HOST/token"},
    "an endpoint behind a name": {"token_endpoint": "http://HOST@evil.example/token"},
    "an endpoint behind a backslash": {"token_endpoint": "http://HOST\\@evil.example/token"},
    "an endpoint that is no URL": {"token_endpoint": "http://[bad"},
    "an endpoint without a host": {"token_endpoint": "/token"},
}


@pytest.mark.parametrize("members", BAD_METADATA.values(), ids=BAD_METADATA)
async def test_leg_2_goes_nowhere_but_to_the_issuers_own_endpoint(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    members: dict[str, object],
) -> None:
    issuer = authorization_server.issuer
    spelled_out = {
        name: value.replace("ISSUER", issuer).replace("HOST", issuer.removeprefix("http://"))
        if isinstance(value, str)
        else value
        for name, value in members.items()
    }
    authorization_server.metadata.dial = Dial(members=spelled_out)

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.AS_METADATA_INVALID
    assert authorization_server.token.calls == []


async def test_leg_2_without_metadata_is_an_outage(
    hub: Hub, alice: VerifiedUser, authorization_server: AuthorizationServer
) -> None:
    authorization_server.metadata.dial = Dial(status=503)

    assert (await denial(hub.token_for(alice))).reason is Reason.AS_UNAVAILABLE


async def test_an_endpoint_of_the_settings_may_be_elsewhere_and_needs_no_metadata(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
) -> None:
    elsewhere = authorization_server.issuer.replace("127.0.0.1", "localhost") + "/token"
    hub = Hub(
        idp.registration(token_endpoint=f"{idp.issuer}/token"),
        authorization_server.registration(token_endpoint=elsewhere),
        outbound=outbound,
        time=time,
    )

    assert await hub.token_for(hub.user(idp.sign_in()))
    assert idp.metadata.calls == authorization_server.metadata.calls == []


# ---- our own credentials


async def test_a_hub_credential_that_cannot_be_read_is_ours_to_mend(
    hub: Hub, alice: VerifiedUser, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HUB_SECRET")

    denied = await denial(hub.leg_1(alice))

    assert denied.reason is Reason.HUB_CLIENT_REFUSED
    assert denied.detail == "the environment variable HUB_SECRET is not set"
    assert idp.token.calls == []


async def test_a_server_credential_that_cannot_be_read_is_ours_to_mend(
    hub: Hub,
    alice: VerifiedUser,
    authorization_server: AuthorizationServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVER_SECRET", " ")

    denied = await denial(hub.token_for(alice))

    assert denied.reason is Reason.SERVER_CLIENT_REFUSED
    assert denied.detail == "it is empty"
    assert authorization_server.token.calls == []


async def test_a_key_that_is_none_is_ours_to_mend(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUB_KEY", "canary")
    key_client = client(HUB.id, "HUB_KEY", AuthMethod.PRIVATE_KEY_JWT)
    provider = idp.registration(client=key_client)
    hub = Hub(provider, authorization_server.registration(), outbound=outbound, time=time)

    denied = await denial(hub.leg_1(hub.user(idp.sign_in())))

    assert denied.reason is Reason.HUB_CLIENT_REFUSED
    assert "canary" not in denied.detail


async def test_a_secret_file_that_changed_counts_from_the_next_request(
    idp: IdentityProvider,
    authorization_server: AuthorizationServer,
    outbound: Outbound,
    time: MovableTime,
    tmp_path: Path,
) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    rotating = replace(
        HUB_AT_SERVER,
        auth=AuthMethod.CLIENT_SECRET_POST,
        credential=SecretSource(file=str(file)),
    )
    registration = authorization_server.registration(client=rotating)
    hub = Hub(idp.registration(), registration, outbound=outbound, time=time)
    alice = hub.user(idp.sign_in())

    for secret in ("old", "new\n"):
        file.write_text(secret)
        await hub.leg_2(await hub.leg_1(alice))

    sent = [call.form["client_secret"] for call in authorization_server.token.calls]
    assert sent == ["old", "new"]
