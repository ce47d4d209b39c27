"""What a verification cannot show, said plainly: an auditor should not have to guess it."""

from collections.abc import Iterable, Sequence

from ext_authz.auditor.findings import ChainSummary


def unproven(
    chains: Sequence[ChainSummary], *, has_keys: bool, has_copies: bool
) -> tuple[str, ...]:
    """Sentences."""
    return (
        *(sentence for chain in chains for sentence in _of_chain(chain, has_keys=has_keys)),
        *_of_all(has_keys=has_keys, has_copies=has_copies),
    )


def _of_chain(chain: ChainSummary, *, has_keys: bool) -> Iterable[str]:
    name = f"Chain {chain.chain}"
    if chain.first > 0:
        yield f"{name} begins at {chain.first}: earlier files were not given or are missing."
    if not has_keys:
        return
    if chain.signed_to is None:
        yield f"{name}: no checkpoint of it has a checked signature, so all of it could be made up."
    elif chain.unsigned_records:
        yield (
            f"{name}: {chain.unsigned_records} records come after its last signed checkpoint "
            f"({chain.signed_to}); they are chained, and could be written anew without the key."
        )


def _of_all(*, has_keys: bool, has_copies: bool) -> Iterable[str]:
    if has_keys:
        yield "Whoever holds the signing key can write, and sign, another chain."
    else:
        yield (
            "Signatures were not checked: whoever can write the files could have written all of them "
            "anew. Give the public key with --key. (A `public_key` in the files proves nothing.)"
        )
    if has_copies:
        yield "Records after the newest checkpoint that was kept elsewhere may be missing."
    else:
        yield (
            "Records may be missing at the end of a chain, and whole chains with all their files. "
            "Give the checkpoints that were kept elsewhere with --checkpoints."
        )
    yield "Whether the service wrote the truth, and files that were not given, cannot be told from these."
