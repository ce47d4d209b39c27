"""What reached an MCP server while a block ran."""

import contextlib
from collections.abc import Iterator

from ext_authz.demo.witness import Note
from ext_authz.demo.world import World


@contextlib.contextmanager
def reaching(server: str, world: World) -> Iterator[list[Note]]:
    """The MCP requests that `server` got, filled in when the block ends.

    What came to other paths is left out: the CRM's port has its authorization server too.
    """
    before = len(world.witnessed()[server])
    notes: list[Note] = []
    yield notes
    notes += [note for note in world.witnessed()[server][before:] if note.path == "/mcp"]
