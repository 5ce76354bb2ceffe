"""A Celery application.

celery -A workers.tasks.app worker --concurrency 8                  # prefork; also -P threads, -P gevent
python -c 'from workers.tasks.app import transfer; transfer.delay(1, 2, 50)'
"""

from __future__ import annotations

import os
import uuid

import asyncpg
from celery import Celery, Task

from pgactor import Client, OutcomeUnknown, PoolError, SupervisorUnavailable
from pgactor.contrib.celery import label_tasks

client = Client(label="tasks")  # $PGACTOR_ENDPOINT says where; it connects when first used, in each process anew
label_tasks()

app = Celery("tasks", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0"))
app.conf.update(
    task_acks_late=True,  # a task whose worker dies is run again
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_max_tasks_per_child=int(os.environ.get("TASKS_PER_CHILD", "1000")),
    task_soft_time_limit=50,
    task_time_limit=60,
)

AGAIN = (PoolError, SupervisorUnavailable, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Nothing has happened, and it may work in a moment."""


@app.task(autoretry_for=(*AGAIN, OutcomeUnknown), retry_backoff=True, max_retries=5)
def balance(number: int) -> int | None:
    """A read: one statement, which holds no connection. It may be repeated whatever became of it."""
    found: int | None = client.fetchval("SELECT balance FROM accounts WHERE id = $1", number)
    return found


@app.task(bind=True, autoretry_for=(*AGAIN, OutcomeUnknown), retry_backoff=True, max_retries=5)
def transfer(self: Task[[int, int, int], bool], source: int, target: int, amount: int) -> bool:
    """A write in a transaction. It may be repeated, for the task's id is written with it, and that stays the same:
    False if an earlier try, or the same task delivered twice, has done it."""
    with client.transaction() as lease:
        key = uuid.UUID(self.request.id)
        sql = "INSERT INTO transfers VALUES ($1, $2, $3, $4, 'tasks') ON CONFLICT DO NOTHING"
        if lease.execute(sql, key, source, target, amount) == "INSERT 0 0":
            return False
        for number, change in sorted([(source, -amount), (target, amount)]):  # in one order: no deadlocks
            lease.execute("UPDATE accounts SET balance = balance + $2 WHERE id = $1", number, change)
    return True


@app.task(soft_time_limit=300, time_limit=330)
def report(seconds: float) -> int:
    """Something long: so many seconds in PostgreSQL; it is cancelled there before the time limit ends the task."""
    total: int = client.fetchval("SELECT sum(balance)::bigint FROM accounts, pg_sleep($1)", seconds, timeout=300)
    return total


@app.task(bind=True, max_retries=3)
def audit(self: Task[[], int]) -> int:
    """A task that retries by itself: it wants to see all accounts when no transfer is under way."""
    try:
        with client.transaction(isolation="repeatable_read") as lease:
            lease.execute("LOCK TABLE accounts IN SHARE MODE NOWAIT")
            total: int = lease.fetchval("SELECT sum(balance)::bigint FROM accounts")
            return total
    except asyncpg.LockNotAvailableError as error:
        raise self.retry(exc=error, countdown=0.1 * 2**self.request.retries) from None
