"""I7. Fingerprints: a leaked token is matched with a key of its time, and with nothing else."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from ext_authz.audit.fingerprint import Fingerprints
from ext_authz.auditor.files import find_sources
from ext_authz.auditor.tokens import fingerprints_of, records_of
from ext_authz.secret import Secret
from ext_authz.settings.secret_source import SecretSource
from tests.abuse.auditing import audit, verified
from tests.abuse.verdicts import Seen
from tests.doubles.audit_settings import audit_settings
from tests.pipeline.gateway import Gateway

KEYS: Final = ("the-first-key-" * 3, "the-second-key-" * 3)
HASHES: Final = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "blake2b")
PIECE: Final = 12  # bytes of a hash: enough to match by, were they there


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaked:
    """The three tokens of one call, and its decision."""

    user_token: str
    id_jag: str
    access_token: str
    decision_id: str

    def tokens(self) -> dict[str, str]:
        return {
            "user_token": self.user_token,
            "id_jag": self.id_jag,
            "access_token": self.access_token,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A file that was written under one key after the other, the files of the keys, and what leaked."""

    file: Path
    keys: tuple[Path, ...]
    leaked: tuple[Leaked, ...]


@pytest.fixture
async def recorded(prepared: Gateway) -> Recorded:
    file = prepared.audit_file.with_name("fingerprint")
    settings = audit_settings(prepared.audit_file, fingerprint_key=SecretSource(file=str(file)))
    prepared.change(audit=settings)
    keys, leaked = [], []
    for number, key in enumerate(KEYS):
        file.touch(mode=0o600)
        file.write_text(key)
        leaked.append(await _call(prepared))
        keys.append(file.with_suffix(f".{number}"))
        keys[-1].write_text(key)
    return Recorded(file=prepared.audit_file, keys=tuple(keys), leaked=tuple(leaked))


async def _call(gateway: Gateway) -> Leaked:
    async with gateway.serving():
        token = gateway.sign_in()
        answer = await gateway.call(token=token)
    return Leaked(
        user_token=token,
        id_jag=gateway.idp.issued[-1],
        access_token=answer.authorization.removeprefix("Bearer "),
        decision_id=answer.decision_id,
    )


def found(file: Path, token: str, keys: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The decisions that a leaked token stands behind, and as what."""
    prints = fingerprints_of(Secret(token), [Fingerprints(key) for key in keys])
    hits = records_of(find_sources([str(file)]), prints)
    return [(hit.row.decision.decision_id, hit.tokens) for hit in hits]


def test_i7_a_leaked_token_is_found_among_the_records_of_every_key(
    recorded: Recorded, prepared: Gateway, seen: Seen
) -> None:
    for number, call in enumerate(recorded.leaked):
        for name, token in call.tokens().items():
            hit = [(call.decision_id, (name,))]
            assert found(recorded.file, token, KEYS) == hit
            assert found(recorded.file, token, KEYS[number : number + 1]) == hit
            assert found(recorded.file, token, KEYS[:number] + KEYS[number + 1 :]) == []
    assert found(recorded.file, prepared.sign_in(), KEYS) == []
    assert verified(recorded.file).is_intact
    seen("found under the key of its time")


def test_i7_the_command_finds_a_leaked_token_with_the_key_and_not_without_it(
    recorded: Recorded, seen: Seen
) -> None:
    (old, new), call = recorded.keys, recorded.leaked[0]
    for name, token in call.tokens().items():
        hit = audit("fingerprint", "--key", new, "--key", old, recorded.file, stdin=token)
        miss = audit("fingerprint", "--key", new, recorded.file, stdin=token)
        assert (hit.status, hit.err) == (0, "")
        assert any(name in line and call.decision_id in line for line in hit.out.splitlines())
        assert (miss.status, miss.err) == (1, "")
        assert "No record holds this token." in miss.out
        assert call.decision_id not in miss.out
        assert token not in hit.out + miss.out
    without = audit("fingerprint", recorded.file, stdin=call.user_token)
    assert without.status == 2
    assert without.out == ""
    assert "--key" in without.err
    seen("found with the key alone")


def test_i7_no_hash_that_anybody_could_compute_stands_in_the_log(
    recorded: Recorded, seen: Seen
) -> None:
    log = recorded.file.read_bytes()
    for call in recorded.leaked:
        for token in call.tokens().values():
            assert not [text for text in _matched_by(token) if text in log]
            assert _keyed(token, KEYS[recorded.leaked.index(call)]) in log
    seen("keyed fingerprints only")


def _keyed(token: str, key: str) -> bytes:
    """The fingerprint as the documentation has it, computed by hand."""
    digest = hashlib.sha256(token.encode()).digest()
    return hmac.new(key.encode(), digest, "sha256").hexdigest().encode()


def _matched_by(token: str) -> Iterator[bytes]:
    """What somebody without the key could look for: pieces of the token, and of its hashes."""
    yield from (token[at : at + 20].encode() for at in range(0, len(token) - 20, 20))
    for text in (token.encode(), f"Bearer {token}".encode()):
        for name in HASHES:
            yield from _spellings(hashlib.new(name, text).digest())
            yield from _spellings(hashlib.new(name, hashlib.new(name, text).digest()).digest())
        yield from _spellings(hmac.digest(b"", hashlib.sha256(text).digest(), "sha256"))


def _spellings(digest: bytes) -> Iterator[bytes]:
    piece = digest[:PIECE]  # of which base64 is as long as of nothing else
    yield piece.hex().encode()
    yield piece.hex().upper().encode()
    yield base64.b64encode(piece)
    yield base64.urlsafe_b64encode(piece)
