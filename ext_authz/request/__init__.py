"""What Envoy told us about the request."""
