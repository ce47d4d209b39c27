"""Envoy external authorization that gets each MCP request the access token of its own server."""

__version__ = "0.1.0"
