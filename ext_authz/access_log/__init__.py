"""What became of each call, from Envoy's gRPC access log into the audit."""
