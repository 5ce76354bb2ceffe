"""Those who look on see what their key permits, and leave the others in peace."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgactor import AsyncClient
from pgactor.viewing.watch import Watch
from tests.security.conftest import KeyFiles
from tests.supervising import StartSupervisor, SupervisorProcess, free_port

POOLS = "[pools.secret]\nmin_size = 0\nmax_size = 7\n"


async def test_a_pool_that_the_key_does_not_permit_is_not_even_asked_for(
    serving: Callable[..., SupervisorProcess], keys: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.client("viewer", "--pool", "default")
    supervisor = serving(endpoints=[tcp := f"tcp://127.0.0.1:{free_port()}"], toml=POOLS + keys.toml)
    monkeypatch.setenv("PGACTOR_SERVER_KEY", str(keys.server))
    monkeypatch.setenv("PGACTOR_KEY", str(key))
    watch = Watch(tcp, None, label="viewer")
    try:
        sight = await watch.look()
    finally:
        await watch.close()
    assert (sight.error, list(sight.pools), sight.unseen) == ("", ["default"], {})
    assert "was refused" not in supervisor.log.read_text()


async def test_a_pool_that_was_made_of_a_template_is_not_kept_open_by_a_look(
    start_supervisor: StartSupervisor, dsn: str
) -> None:
    toml = f'[templates.tenant]\ndsn = "{dsn}"\n[templates.tenant.connect]\nuser = "{{user}}"\n'
    supervisor = start_supervisor(toml=toml)
    async with AsyncClient(supervisor.ipc, pool="tenant/postgres") as client:
        watch = Watch(supervisor.ipc, None, label="viewer")
        sight = await watch.look()
        await watch.close()
        assert list(sight.pools) == ["default"]
        assert sight.unseen.keys() == {"tenant/postgres"}
        assert [each.label for each in (await client.status()).workers].count("viewer") == 0
