"""The audit file, followed into an OpenTelemetry collector."""
