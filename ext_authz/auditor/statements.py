"""Checkpoints: what they state must be so, and with keys at hand, they must be signed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ext_authz.audit.canonical import shown
from ext_authz.audit.chain import Head, Link
from ext_authz.audit.checkpoint import Statement, is_signed, key_id

Keys = Mapping[str, Ed25519PublicKey]  # by their id

_WRONG: Final = "it does not state where the chain stands: the head, or its number, is another."


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a checkpoint is worth. `fault` is None where it is sound; `is_proven`: a given key signed it."""

    is_proven: bool
    fault: str | None = None
    is_statement_wrong: bool = False


def keys_by_id(keys: list[Ed25519PublicKey]) -> Keys:
    return {key_id(key): key for key in keys}


def judge(link: Link, event: Mapping[str, Any], keys: Keys) -> Judged:
    """Judges the checkpoint `event` that stands in the chain as `link` says."""
    data = event["unmapped"]["log"].get("checkpoint")
    if not isinstance(data, dict) or not _states(data, link):
        return Judged(is_proven=False, fault=_WRONG, is_statement_wrong=True)
    if not keys:
        return Judged(is_proven=False)
    signature, signer = data.get("signature"), data.get("key_id")
    if not isinstance(signature, str) or not isinstance(signer, str):
        return Judged(is_proven=False, fault="it carries no signature, though a key was given.")
    key = keys.get(signer)
    if key is None:
        fault = f"it is signed by the key {shown(signer)}, which was not given: give its PEM with --key."
        return Judged(is_proven=False, fault=fault)
    statement = Statement(Head(link.chain_uid, link.sequence - 1, link.previous), data["time"])
    if not is_signed(statement, signature, key):
        return Judged(is_proven=False, fault=f"its signature is not that of the key {signer}.")
    return Judged(is_proven=True)


def _states(data: Mapping[str, Any], link: Link) -> bool:
    stated = (data.get("head"), data.get("sequence"))
    return stated == (link.previous, link.sequence - 1) and isinstance(data.get("time"), int)
