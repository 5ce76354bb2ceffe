"""Listeners of a lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pgactor.client.leased import Callback, Leased, as_callback
from pgactor.messages import Message
from pgactor.messages.session import Notice

from .memory import granted


def test_a_listener_that_another_thread_adds_while_a_notice_is_told_hears_the_next_one() -> None:
    class Lease(Leased):
        told = 0

        def _callback(self, callback: Callable[..., Any]) -> Callback:
            return as_callback(callback)

        def _tell(self, message: Message) -> None:
            pass

        def _dispatch(self, callback: Callback, *args: object) -> None:
            self.told += 1
            self.add_log_listener(lambda *_: None)  # in the middle, as another thread may

    lease = Lease(granted(1), time.monotonic(), "ipc:///run/nowhere.sock")  # type: ignore[abstract]
    lease.add_log_listener(lambda *_: None)
    lease.pushed(Notice(lease.token, {"message": "one"}))
    assert lease.told == 1
    lease.pushed(Notice(lease.token, {"message": "two"}))
    assert lease.told == 3
