"""The dashboard's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgactor.viewing import dashboard
from pgactor.viewing.board import Board


@pytest.mark.timeout(60)
def test_a_bug_in_a_look_ends_the_dashboard_with_its_error(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def post(*_: object) -> None:
        raise RuntimeError("a bug that the test has put there")

    monkeypatch.setattr(Board, "post", post)
    nobody = f"ipc://{short_tmp}/nobody.sock"
    with pytest.raises(RuntimeError, match="a bug"):
        dashboard.serve(nobody, None, host="127.0.0.1", port=0, interval=0.1, ready=lambda _: None)
