"""Reads the `audit:` mapping: what is kept of each Check, where, and how surely."""

import re
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519

from ext_authz.settings.private_key import private_key
from ext_authz.settings.secret_reference import read_secret, read_source
from ext_authz.settings.secret_source import SecretSource
from ext_authz.settings.settings import (
    AuditSettings,
    Checkpoints,
    Durability,
    OtlpSink,
    Rotation,
    SubjectForm,
)
from ext_authz.settings.url import needed_url
from ext_authz.settings.yaml_cursor import Cursor

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_OURS: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
    }
)
MIN_FINGERPRINT_KEY: Final = 32  # characters: less could be guessed, and with it every user's name
_FILE: Final = "Give the path of the audit log."
_ROTATION: Final = Rotation(megabytes=256, seconds=24 * 3600)
_CHECKPOINTS: Final = Checkpoints(records=1000, seconds=60, file=None)
_OUTCOME_SECONDS: Final = 3600.0
_MOST_MEGABYTES: Final = 1024 * 1024
_MOST_HOURS: Final = 24 * 366
_MOST_RECORDS: Final = 1_000_000
_MOST_SECONDS: Final = 24 * 3600
DEFAULTS: Final = AuditSettings(
    file="",
    durability=Durability.WRITTEN,
    signing_key=None,
    fingerprint_key=None,
    subject=SubjectForm.PLAIN,
    rotation=_ROTATION,
    checkpoints=_CHECKPOINTS,
    outcome_seconds=_OUTCOME_SECONDS,
    stdout=False,
    otlp=None,
)


def read_audit(root: Cursor) -> AuditSettings:
    """The audit's settings under `root`; faults are noted at their keys."""
    member = root.need("audit", "Say where records go: {file: /var/log/mcp-ext-authz/audit.jsonl}.")
    if member is None or not member.is_mapping():
        return DEFAULTS
    file, outcome, stdout = (
        member.need("file", _FILE),
        member.get("outcome_seconds"),
        member.get("stdout"),
    )
    audit = AuditSettings(
        file=file.text() if file else "",
        durability=_durability(member),
        signing_key=_signing_key(member),
        fingerprint_key=_fingerprint_key(member),
        subject=_subject(member),
        rotation=_rotation(member),
        checkpoints=_checkpoints(member),
        outcome_seconds=outcome.seconds(most=_MOST_SECONDS) if outcome else _OUTCOME_SECONDS,
        stdout=stdout.flag() if stdout else False,
        otlp=_otlp(member),
    )
    member.refuse_unknown()
    return audit


def _durability(member: Cursor) -> Durability:
    value = member.get("durability")
    return value.choice(Durability, Durability.WRITTEN) if value else Durability.WRITTEN


def _signing_key(member: Cursor) -> SecretSource | None:
    reference = member.get("signing_key")
    if reference is None:
        return None
    source = read_source(reference)
    pem = read_secret(reference, source)
    if pem is None:
        return source
    try:
        key = private_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        fix = "Make one: openssl genpkey -algorithm ed25519."
        reference.fault("is not an unencrypted Ed25519 key in PEM", fix)
    return source


def _fingerprint_key(member: Cursor) -> SecretSource | None:
    reference = member.get("fingerprint_key")
    if reference is None:
        return None
    source = read_source(reference)
    key = read_secret(reference, source)
    if key is not None and len(key.reveal()) < MIN_FINGERPRINT_KEY:
        reference.fault(
            f"is shorter than {MIN_FINGERPRINT_KEY} characters", "Make one: openssl rand -hex 32."
        )
    return source


def _subject(member: Cursor) -> SubjectForm:
    value = member.get("subject")
    form = value.choice(SubjectForm, SubjectForm.PLAIN) if value else SubjectForm.PLAIN
    if value and form is SubjectForm.HMAC and member.get("fingerprint_key") is None:
        value.fault("needs a key", "Give `fingerprint_key` as well.")
    return form


def _rotation(member: Cursor) -> Rotation:
    rotate = member.get("rotate")
    if rotate is None or not rotate.is_mapping():
        return _ROTATION
    size, age = rotate.get("megabytes"), rotate.get("hours")
    rotate.refuse_unknown()
    return Rotation(
        megabytes=size.number("megabytes", most=_MOST_MEGABYTES) if size else _ROTATION.megabytes,
        seconds=age.number("hours", most=_MOST_HOURS) * 3600 if age else _ROTATION.seconds,
    )


def _checkpoints(member: Cursor) -> Checkpoints:
    checkpoint = member.get("checkpoint")
    if checkpoint is None or not checkpoint.is_mapping():
        return _CHECKPOINTS
    records, seconds, file = (checkpoint.get(name) for name in ("records", "seconds", "file"))
    checkpoint.refuse_unknown()
    return Checkpoints(
        records=_whole(records) if records else _CHECKPOINTS.records,
        seconds=seconds.seconds(most=_MOST_SECONDS) if seconds else _CHECKPOINTS.seconds,
        file=file.text() if file else None,
    )


def _whole(records: Cursor) -> int:
    number = records.number("records", most=_MOST_RECORDS)
    if number % 1:
        records.fault("is not a whole number", "Write it without a fraction.")
    return max(1, int(number))


def _otlp(member: Cursor) -> OtlpSink | None:
    otlp = member.get("otlp")
    if otlp is None or not otlp.is_mapping():
        return None
    endpoint = needed_url(otlp, "endpoint", "Give the collector's: https://HOST:4318/v1/logs.")
    headers = otlp.get("headers")
    read = _headers(headers) if headers is not None and headers.is_mapping() else {}
    otlp.refuse_unknown()
    return OtlpSink(endpoint=endpoint, headers=MappingProxyType(read)) if endpoint else None


def _headers(headers: Cursor) -> dict[str, SecretSource]:
    read: dict[str, SecretSource] = {}
    for name in headers.names():
        reference = headers.need(name, "Refer to its value: {env: NAME} or {file: /path}.")
        if reference is None:
            continue
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
            reference.fault("is not a header that may be set", "Use another header's name.")
        else:
            read[name] = read_source(reference)
            read_secret(reference, read[name])
    return read
