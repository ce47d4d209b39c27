"""LiteLLM's MCP gateway with `oauth2_id_jag` before the demo world's wiki, unchanged, from a venv of its own.

It is configured for one call and not for a deployment: no database and no SSO, a master key in
`x-litellm-api-key`, the user's ID token in `Authorization`. It finds a tool only where it has listed it, and
it lists only with an assertion that a sign-in through its own SSO has left in its database. So a second
server under the same alias, which wants no token, tells it the tools' names; what that one would say to a call
is never taken for an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml

from bench.cores import SERVER
from bench.fronts import free_port
from bench.processes import started, up
from bench.progress import told
from ext_authz.demo.loopback import HOST
from ext_authz.demo.world import World

VENV: Final = Path(".venv-peers")
PATH: Final = "/wiki/mcp"
ADMISSION: Final = {"x-litellm-api-key": "Bearer sk-bench"}
START_SECONDS: Final = 240
_OWN_ENVIRONMENT: Final = (
    "env",
    "-u",
    "PYTHONPATH",
    "LITELLM_LOCAL_MODEL_COST_MAP=True",  # else it fetches a list of prices when it starts
    "LITELLM_LOG=ERROR",
)


@asynccontextmanager
async def litellm(
    world: World, folder: Path, upstream: int, names: int
) -> AsyncIterator[tuple[str, int]]:
    """Runs it on the server's core until the block ends; gives its address.

    `upstream` and `names` are the ports of the MCP server and of the one that tells the tools' names.
    """
    port, file = free_port(), folder / "litellm.yaml"
    tree = _configuration(world, upstream, names)
    file.write_text(
        yaml.safe_dump(tree, sort_keys=False)
    )  # of two servers with an alias the first is called
    program = str(VENV.absolute() / "bin" / "litellm")
    options = ["--config", str(file), "--host", HOST, "--port", str(port), "--telemetry", "False"]
    command = [*_OWN_ENVIRONMENT, program, *options]
    async with started("litellm", command, folder, SERVER) as running:
        with told("litellm starts"):
            async with asyncio.timeout(START_SECONDS):
                await up(running, folder / "litellm.err", lambda: _is_alive(port))
        yield HOST, port


def _configuration(world: World, upstream: int, names: int) -> Mapping[str, Any]:
    wiki = world.wiki
    return {
        "mcp_servers": {
            "wiki": {
                "url": f"http://{HOST}:{upstream}/mcp",
                "transport": "http",
                "auth_type": "oauth2_id_jag",
                "token_exchange_endpoint": world.identity_provider.token_endpoint,
                "id_jag_resource_token_endpoint": f"{wiki.issuer}/token",
                "id_jag_resource": wiki.resource,
                "audience": wiki.issuer,
                "scopes": list(wiki.scopes),
                "client_id": world.hub_client_id,
                "client_private_key": world.hub_private_key.reveal(),
                "client_assertion_signing_alg": "ES256",
                "id_jag_resource_client_id": wiki.client_id,
                "id_jag_resource_client_secret": wiki.client_secret.reveal(),
            },
            "names": {
                "url": f"http://{HOST}:{names}/mcp",
                "transport": "http",
                "alias": "wiki",
                "auth_type": "none",
            },
        },
        "general_settings": {"master_key": "sk-bench"},
        "litellm_settings": {"telemetry": False},
    }


async def _is_alive(port: int) -> bool:
    try:
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://{HOST}:{port}/health/liveliness")
    except httpx2.HTTPError:
        return False
    return answer.is_success
