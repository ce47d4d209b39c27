"""A gateway whose replicas are given the audit settings under test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ext_authz.auditor.files import find_sources
from ext_authz.auditor.findings import Report
from ext_authz.auditor.verify import verify
from tests.envoy.chaos.gateway import Gateway, Replica, gateway

CHECKPOINTS: Final = {"records": 200, "seconds": 1}
BOTH_LEVELS: Final = {"one": "written", "two": "synced"}


@contextlib.asynccontextmanager
async def audited(
    folder: Path, audit_folder: Path, levels: Mapping[str, str] = BOTH_LEVELS
) -> AsyncIterator[Gateway]:
    """Runs it, each replica with the durability in `levels`, with keys, and many checkpoints."""
    async with gateway(folder, replicas=list(levels)) as gate:
        for replica, (name, durability) in zip(gate.replicas, levels.items(), strict=True):
            replica.audit_file = audit_folder / f"{name}.jsonl"
            _change_audit(folder, name, file=str(replica.audit_file), durability=durability)
        await restarted(gate.replicas)
        yield gate


async def kill(replicas: Sequence[Replica]) -> None:
    """SIGKILL to all of them at once; returns when they are gone."""
    for replica in replicas:
        replica.process.kill()
    await asyncio.gather(*(replica.stop() for replica in replicas))


async def restarted(replicas: Sequence[Replica]) -> None:
    """Ends those that still run in order; returns when all serve again."""
    await asyncio.gather(*(replica.stop() for replica in replicas))
    await asyncio.gather(*(replica.start() for replica in replicas))


def verified(replica: Replica, folder: Path) -> Report:
    """What `audit verify` finds, with the public key of the gateway in `folder`."""
    pem = (folder / "secrets" / "audit.pem").read_bytes()
    return verify(find_sources([str(replica.audit_file)]), keys=[_public_key(pem)], workers=1)


def _public_key(pem: bytes) -> Ed25519PublicKey:
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.public_key()


def _change_audit(folder: Path, name: str, **settings: str) -> None:
    configuration = folder / f"{name}.yaml"
    tree = yaml.safe_load(configuration.read_text())
    tree["node"]["metadata"]["mcp_ext_authz"]["audit"] = {
        **settings,
        "checkpoint": CHECKPOINTS,
        "signing_key": {"file": f"{folder}/secrets/audit.pem"},
        "fingerprint_key": {"file": f"{folder}/secrets/fingerprint"},
    }
    configuration.write_text(yaml.safe_dump(tree))
