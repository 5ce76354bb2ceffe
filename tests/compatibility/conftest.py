"""The fixtures of the integration tests, for tests that hold pgactor against what it takes the place of."""

from tests.integration.conftest import db, kind, launch, loop_thread, open_client, start, uvloop_thread

__all__ = ["db", "kind", "launch", "loop_thread", "open_client", "start", "uvloop_thread"]
