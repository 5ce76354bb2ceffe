"""Where workers and supervisor meet, unless they are told otherwise."""

DEFAULT_ENDPOINT = "ipc:///run/pgactor/main.sock"

ENDPOINT_VARIABLE = "PGACTOR_ENDPOINT"
"""The environment variable that clients and the supervisor take their endpoint from."""

POOL_VARIABLE = "PGACTOR_POOL"
"""The environment variable that clients take the name of their pool from."""

SERVER_KEY_VARIABLE = "PGACTOR_SERVER_KEY"
"""The environment variable that clients on tcp take the supervisor's public key from: a path, or the key."""

KEY_VARIABLE = "PGACTOR_KEY"
"""The environment variable that clients on tcp take their own secret key from: a path, or the key."""
