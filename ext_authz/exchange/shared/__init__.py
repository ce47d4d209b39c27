"""Access tokens that replicas share through a Valkey or Redis server, which is trusted with nothing."""
