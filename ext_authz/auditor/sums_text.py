"""The sums for people."""

from collections.abc import Iterable, Mapping, Sequence

from ext_authz.audit.canonical import shown
from ext_authz.auditor.sums import Stats, Used


def sums_text(found: Stats, *, top: int) -> Iterable[str]:
    """Lines; of users, servers and tools the `top` most used. What is alarming comes first."""
    yield from _alarms(found)
    span = f", {shown(found.first)} to {shown(found.last or '')}" if found.first else ""
    yield f"{found.decisions} decisions{span}"
    yield from _counts("verdicts", found.verdicts, found.decisions)
    yield from _counts("denied because", found.reasons, found.decisions)
    yield from _counts("access tokens from", found.token_sources, sum(found.token_sources.values()))
    yield from _times(found.milliseconds)
    yield from _counts(f"{found.outcomes} outcomes, by status", found.statuses, found.outcomes)
    for title, used in (("users", found.users), ("servers", found.servers), ("tools", found.tools)):
        yield from _used(title, used, top)


def _alarms(found: Stats) -> Iterable[str]:
    if found.bypassing_calls:
        yield f"WARNING: {found.bypassing_calls} calls reached a server WITHOUT AN ALLOW of ours:"
        for each in found.bypasses:
            cluster = shown(each.upstream_cluster or "unknown")
            status = shown(str(each.status))
            yield f"  {shown(each.time)} cluster {cluster} status {status}"
    if found.outcomes_missing:
        yield f"WARNING: of {found.outcomes_missing} allowed calls no outcome is known."
    if found.lost_records:
        yield f"WARNING: {found.lost_records} Checks were denied and left no record (the log was full or slow)."
    if found.unreadable:
        yield f"WARNING: {found.unreadable} lines are not as the service writes them; see `audit verify`."
    if found.unsynced_records:
        yield f"WARNING: the disk did not confirm {found.unsynced_records} records."


def _counts(title: str, counts: Mapping[str, int], of: int) -> Iterable[str]:
    if counts:
        yield ""
        yield title
    for name, count in counts.items():
        yield f"  {shown(name):<28} {count:>10} {count / of:>7.1%}"


def _times(times: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    if times:
        yield ""
        yield "milliseconds of a Check, by where the access token came from"
    for name, percentiles in times.items():
        figures = "  ".join(f"{each} {value:>9.2f}" for each, value in percentiles.items())
        yield f"  {shown(name):<28} {figures}"


def _used(title: str, used: Sequence[Used], top: int) -> Iterable[str]:
    if not used:
        return
    rest = f", the {top} most used" if len(used) > top else ""
    yield ""
    yield f"{title} ({len(used)}{rest}): allowed, denied"
    for each in used[:top]:
        yield f"  {shown(each.name):<60} {each.allowed:>10} {each.denied:>8}"
