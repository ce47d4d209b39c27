"""The story that `mcp-ext-authz demo` tells: the main job, live, with every promise checked."""

import asyncio
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ext_authz.demo.audit_chapters import what_an_auditor_can_tell, what_the_audit_says
from ext_authz.demo.by_hand import explain
from ext_authz.demo.chapters import (
    alice_uses_both_servers,
    bob_is_refused_by_policy,
    carol_is_switched_off,
    strangers_are_sent_to_sign_in,
    what_the_servers_saw,
)
from ext_authz.demo.figures import Figures, figures_of
from ext_authz.demo.front import CannotStartError, Front, front
from ext_authz.demo.loopback import PortTakenError
from ext_authz.demo.narrator import Narrator
from ext_authz.demo.world import World


async def tell(*, keep: bool, as_json: bool) -> int:
    """Runs the demo; gives 0 where everything came true, 1 where not.

    With `keep` it stays up until interrupted; with `as_json` the last line is the figures.
    """
    _end_in_order_on(signal.SIGTERM)
    narrator = Narrator()
    folder = Path(tempfile.mkdtemp(prefix="mcp-ext-authz-demo-"))
    try:
        async with World.running() as world, front(world, folder) as standing:
            figures = await _chapters(narrator, world, standing)
            if keep:
                explain(narrator, world, standing)
                await _until_interrupted()
    except (CannotStartError, PortTakenError) as error:
        print(error, file=sys.stderr)
        return 1
    _summary(narrator, figures)
    if as_json:
        print(json.dumps(asdict(figures)))
    return 1 if narrator.broken else 0


async def _chapters(narrator: Narrator, world: World, standing: Front) -> Figures:
    narrator.say(
        "An identity provider, two MCP servers, a real Envoy and mcp-ext-authz, on loopback."
    )
    narrator.say(f"Envoy and the service run on {standing.configuration}.")
    await alice_uses_both_servers(narrator, world, standing)
    await bob_is_refused_by_policy(narrator, world, standing)
    await carol_is_switched_off(narrator, world, standing)
    await strangers_are_sent_to_sign_in(narrator, world, standing)
    what_the_servers_saw(narrator, world)
    figures = await figures_of(world, standing)
    await what_the_audit_says(narrator, standing, figures)
    what_an_auditor_can_tell(narrator, standing)
    return figures


def _summary(narrator: Narrator, figures: Figures) -> None:
    narrator.say(
        f"\n{figures.calls} calls: {figures.allowed} allowed, {figures.denied} denied,"
        f" {figures.audit_records} audit records in {figures.audit_file}."
        f"\n{figures.leg1} ID-JAGs, {figures.leg2} access tokens,"
        f" {figures.user_tokens_seen_upstream} user tokens seen by an MCP server."
    )
    if narrator.broken:
        narrator.say(f"{len(narrator.broken)} promises broken:")
        for promise in narrator.broken:
            narrator.say(f"   {promise}")
    else:
        narrator.say(f"All {narrator.held} promises held.")


def _end_in_order_on(number: signal.Signals) -> None:
    """As Ctrl-C does: what was started is ended first."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _until_interrupted() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None:
            current.uncancel()
