"""The state of the pool for people, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .messages.pool import PoolStatus


def plain(text: str) -> str:
    """The text without what would move a terminal's cursor or change its colours: labels may come from anywhere."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _shown(text: str) -> str:
    return escape(plain(text))


def show_status(state: PoolStatus) -> None:
    """Print it to the terminal."""
    console = Console()
    console.print(
        f"[bold]pgactor {state.version}[/] up {state.uptime_seconds:.0f} s, database: {_shown(state.database)}",
        highlight=False,
    )
    if len(state.pools) > 1:
        console.print(f"pool {_shown(state.pool)} of {_shown(', '.join(state.pools))}", highlight=False)
    console.print(
        f"max_size {state.max_size}  size {state.size}  idle {state.idle}  busy {state.busy}  leased {state.leased}  "
        f"resetting {state.resetting}  opening {state.opening}  [bold]waiting {state.waiting}[/]"
        f"{'  [bold]paused[/]' if state.paused else ''}",
        highlight=False,
    )
    if state.stalls:
        console.print(f"the event loop stood still {state.stalls} times, last for {_shown(state.last_stall)}")
    if state.faults:
        console.print(f"[bold]{state.faults} unexpected errors[/]: see the supervisor's log")
    console.print(_holders(state))
    if state.leases:
        console.print(_leases(state))
    console.print(_workers(state))
    counters = "  ".join(f"{name} {count}" for name, count in state.counters.items() if count)
    console.print(counters, highlight=False)


def _holders(state: PoolStatus) -> Table:
    table = Table(title="connections", title_justify="left")
    for name in ("", "state", "for", "backend pid", "uses", "worker", "lease", "statement"):
        table.add_column(name, overflow="fold" if name == "statement" else "ellipsis")
    for holder in state.holders:
        if holder.state != "vacant":
            table.add_row(
                str(holder.number),
                holder.state,
                f"{holder.seconds:.1f} s",
                str(holder.backend_pid or ""),
                str(holder.uses),
                _shown(holder.worker),
                holder.lease,
                _shown(holder.statement),
            )
    return table


def _leases(state: PoolStatus) -> Table:
    table = Table(title="leases", title_justify="left")
    for name in ("lease", "held for", "worker", "pid", "label", "acquired at", "state", "statement"):
        table.add_column(name, overflow="fold")
    for lease in state.leases:
        table.add_row(
            lease.lease,
            f"[bold red]{lease.seconds:.1f} s[/]" if lease.reported else f"{lease.seconds:.1f} s",
            _shown(lease.worker),
            str(lease.pid or ""),
            _shown(lease.label),
            _shown(lease.where),
            lease.state,
            _shown(lease.statement),
        )
    return table


def _workers(state: PoolStatus) -> Table:
    table = Table(title="workers", title_justify="left")
    for name in ("", "label", "pid", "road", "connected", "waiting", "running", "leases"):
        table.add_column(name)
    for worker in state.workers:
        table.add_row(
            str(worker.number),
            _shown(worker.label),
            str(worker.pid or ""),
            worker.road,
            f"{worker.connected_seconds:.0f} s",
            str(worker.waiting),
            str(worker.running),
            str(worker.leases),
        )
    return table
