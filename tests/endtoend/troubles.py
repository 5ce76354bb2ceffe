"""A problem for those who look on: a lease that is held, and a queue behind it."""

from __future__ import annotations

import threading
from types import TracebackType

import pgactor
from pgactor import Client, PgactorError


class Trouble:
    """While it is entered, "nightly report" holds the only connection of a pool, and three "GET /books" wait."""

    def __init__(self, endpoint: str, label: str = "nightly report") -> None:
        self._holder = Client(endpoint, label="celery")
        self._clients = [Client(endpoint, label="web") for _ in range(3)]
        self._threads = [threading.Thread(target=self._wait, args=(each,)) for each in self._clients]
        self._label = label

    def __enter__(self) -> Trouble:
        with pgactor.label(self._label):
            self._lease = self._holder.acquire()
            self._held = self._lease.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.__exit__(None, None, None)
        for thread in self._threads:
            thread.join()
        for client in (self._holder, *self._clients):
            client.close()

    def has_begun(self) -> bool:
        """Whether all three wait."""
        return self._holder.status().waiting == len(self._threads)

    def _wait(self, client: Client) -> None:
        with pgactor.label("GET /books"):
            try:
                client.fetchval("select 1")
            except PgactorError as error:
                raise AssertionError("what waits is served in the end") from error
