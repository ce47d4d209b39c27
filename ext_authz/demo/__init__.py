"""The embedded world: an identity provider and two MCP servers with their authorization servers."""
