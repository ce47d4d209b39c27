"""A token that was verified once is known by its bytes, for as long as that proves anything."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest

from ext_authz.identity.claims import LEEWAY_SECONDS
from ext_authz.identity.issuer_keys import COOLDOWN_SECONDS, FRESH_SECONDS, STALE_SECONDS
from ext_authz.identity.token_memory import TokenMemory, Verified
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.identity.verify import Users
from ext_authz.reasons import Reason
from ext_authz.secret import Secret
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.movable_time import MovableTime
from tests.doubles.outcome import denial
from tests.doubles.signing_keys import signing_key


@pytest.fixture
def signatures_checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A token for each signature that was checked."""
    checked: list[str] = []
    decode = jwt.decode

    def counted(token: str, **options: object) -> object:
        checked.append(token)
        return decode(token, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jwt, "decode", counted)
    return checked


async def test_the_same_bytes_prove_the_same_user_without_another_signature_check(
    users: Users, idp: IdentityProvider, signatures_checked: list[str]
) -> None:
    token = idp.sign_in()

    first, second = await users.verify(Secret(token)), await users.verify(Secret(token))

    assert second is first
    assert signatures_checked == [token]


async def test_a_token_of_the_same_user_is_verified_for_itself(
    users: Users, idp: IdentityProvider, signatures_checked: list[str]
) -> None:
    one, other = idp.sign_in(jti="1"), idp.sign_in(jti="2")

    await users.verify(Secret(one))
    await users.verify(Secret(other))

    assert signatures_checked == [one, other]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["header", "claims", "signature"])
async def test_a_known_token_with_one_letter_changed_is_not_known(
    users: Users, idp: IdentityProvider, place: int
) -> None:
    token = idp.sign_in()
    await users.verify(Secret(token))
    parts = token.split(".")
    parts[place] = ("B" if parts[place][0] == "A" else "A") + parts[place][1:]

    denied = await denial(users.verify(Secret(".".join(parts))))

    assert denied.reason in {
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_SIGNATURE_INVALID,
        Reason.TOKEN_ISSUER_UNKNOWN,
    }


async def test_what_was_refused_is_not_remembered(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    early = Secret(idp.sign_in(nbf=int(time.now) + 100))
    assert (await denial(users.verify(early))).reason is Reason.TOKEN_CLAIMS_INVALID

    time.passes(100)

    assert (await users.verify(early)).subject == "alice"


async def test_it_expires_as_if_it_were_new(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in(exp=int(time.now) + 60))
    await users.verify(token)

    time.passes(60 + LEEWAY_SECONDS)

    for _ in range(2):
        assert (await denial(users.verify(token))).reason is Reason.TOKEN_EXPIRED


async def test_when_the_clock_is_set_back_it_is_not_yet_valid(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in())
    await users.verify(token)

    time.jumps(-3600)

    assert (await denial(users.verify(token))).reason is Reason.TOKEN_CLAIMS_INVALID


async def test_when_the_clock_is_set_back_before_nbf_it_is_not_yet_valid(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in(iat=time.now - 1000, nbf=time.now))
    await users.verify(token)

    time.jumps(-100)

    assert (await denial(users.verify(token))).reason is Reason.TOKEN_CLAIMS_INVALID


async def test_it_ends_with_the_key_that_it_was_verified_with(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in())
    await users.verify(token)

    idp.rotate(signing_key("ES256", "key-2"), drop=True)
    time.passes(STALE_SECONDS + 1)

    assert (await denial(users.verify(token))).reason is Reason.TOKEN_SIGNATURE_INVALID


async def test_keys_that_were_fetched_anew_are_believed_anew(
    users: Users, idp: IdentityProvider, time: MovableTime, signatures_checked: list[str]
) -> None:
    token = idp.sign_in()
    await users.verify(Secret(token))

    time.passes(STALE_SECONDS + 1)
    for _ in range(3):
        await users.verify(Secret(token))

    assert signatures_checked == [token, token]


async def test_without_keys_a_known_token_proves_nothing(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in(exp=int(time.now) + 6 * 24 * 3600))
    await users.verify(token)

    idp.published = []
    time.passes(24 * 3600 + 1)

    assert (await denial(users.verify(token))).reason is Reason.ISSUER_KEYS_UNAVAILABLE


async def test_the_keys_are_kept_fresh_by_known_tokens_too(
    users: Users, idp: IdentityProvider, time: MovableTime
) -> None:
    token = Secret(idp.sign_in())
    await users.verify(token)

    time.passes(max(FRESH_SECONDS, COOLDOWN_SECONDS) + 1)
    await users.verify(token)

    async with asyncio.timeout(5):
        while len(idp.jwks.calls) < 2:  # noqa: ASYNC110 - the double has no event
            await asyncio.sleep(0)


def test_the_least_recently_used_go_first(known: Callable[[], Verified]) -> None:
    memory = TokenMemory(max_tokens=2)
    for name in (b"a", b"b"):
        memory.remember(name, known())
    memory.recall(b"a", 0)
    memory.remember(b"c", known())

    assert len(memory) == 2
    assert memory.recall(b"b", 0) is None
    assert memory.recall(b"a", 0) is not None


@pytest.fixture
def known(idp: IdentityProvider) -> Callable[[], Verified]:
    """What some token proved."""
    user = VerifiedUser(
        provider=idp.registration(),
        issuer=idp.issuer,
        subject="alice",
        session=None,
        acr=None,
        agent=None,
        expires_at=100,
        token=Secret("token"),
    )
    times = {"iat": 1, "exp": 100}
    key = jwt.PyJWK(idp.key.jwk())
    return lambda: replace(Verified(user=user, times=times, key=key, key_id=None))
