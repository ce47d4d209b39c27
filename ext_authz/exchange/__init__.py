"""How the user's token becomes the MCP server's."""
