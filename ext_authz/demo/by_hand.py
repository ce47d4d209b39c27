"""What `demo --keep` prints: everything one needs to try it by hand."""

from ext_authz.demo.front import Front
from ext_authz.demo.narrator import Narrator
from ext_authz.demo.world import World


def explain(narrator: Narrator, world: World, front: Front) -> None:
    """Prints addresses, users and curl lines that can be pasted as they are."""
    provider = world.identity_provider.issuer
    narrator.say("\nIt stays up until Ctrl-C.")
    narrator.table(
        ("what", "where"),
        [
            ("crm, through Envoy", front.server_url("crm")),
            ("wiki, through Envoy", front.server_url("wiki")),
            ("identity provider", provider),
            ("audit log", str(front.audit_file)),
        ],
    )
    narrator.say("\nSign in as alice, bob or carol, and call a tool:\n")
    for name in ("alice", "bob", "carol"):
        narrator.say(f"{name.upper()}={world.password(name)}")
    narrator.say(
        f'TOKEN=$(curl -s {provider}/sign-in -d user=alice -d "password=$ALICE"'
        """ | sed 's/.*"id_token": *"\\([^"]*\\)".*/\\1/')"""
    )
    narrator.say(_call(front.server_url("crm")))
    narrator.say(f"curl -s {front.url}/.well-known/oauth-protected-resource/crm/mcp")
    narrator.say(f"curl -s -X POST {provider}/admin/users/alice/disable")
    narrator.say(f"mcp-ext-authz audit verify --key {front.audit_public_key} {front.audit_file}")
    narrator.say(f"mcp-ext-authz audit stats {front.audit_file}")
    narrator.say(f"mcp-ext-authz audit show --follow {front.audit_file}")


def _call(url: str) -> str:
    headers = (
        "authorization: Bearer $TOKEN",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/call",
        "mcp-name: whoami",
    )
    meta = (
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientInfo":{"name":"curl","version":"1"},'
        '"io.modelcontextprotocol/clientCapabilities":{}}'
    )
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
        f'"params":{{"name":"whoami","arguments":{{}},{meta}}}}}'
    )
    lines = "".join(f' -H "{header}"' for header in headers)
    return f"curl -si {url}{lines} -d '{body}'"
