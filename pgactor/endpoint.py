"""Where workers and supervisor meet, unless they are told otherwise."""

DEFAULT_ENDPOINT = "ipc:///run/pgactor/main.sock"

ENDPOINT_VARIABLE = "PGACTOR_ENDPOINT"
"""The environment variable that clients and the supervisor take their endpoint from."""

POOL_VARIABLE = "PGACTOR_POOL"
"""The environment variable that clients take the name of their pool from."""
