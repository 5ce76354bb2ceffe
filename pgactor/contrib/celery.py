"""Celery: `label_tasks()`, once, where the application is made.

Each task's requests to the database then have its name as their label, and end before its time limit does. Prefork,
threads, gevent and solo are the same to it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from celery import Task, signals

from ..client.surroundings import deadline, label

SPARE_SECONDS = 1.0

_running: dict[str, ExitStack] = {}
"""What each running task of this process has around it, by the task's id."""


def label_tasks(*, spare: float = SPARE_SECONDS) -> None:
    """Label tasks, and make their time limits deadlines. A second call changes nothing.

    spare: seconds of the limit that are kept back, half of it at most, so that a task which runs out of time still
    hears of it from the database, and can say so. The soft limit counts, if there is one, else the hard one; a task
    that runs out of that alone is killed.
    """

    def begin(task_id: str, task: Task[Any, Any], **_: Any) -> None:
        stack = _running[task_id] = ExitStack()
        stack.enter_context(label(task.name or "a task"))
        limit = _limit(task)
        if limit is not None:
            stack.enter_context(deadline(max(limit - spare, limit / 2)))

    signals.celeryd_after_setup.connect(_keep_limits, weak=False, dispatch_uid="pgactor.limits")
    signals.task_prerun.connect(begin, weak=False, dispatch_uid="pgactor.begin")
    signals.task_postrun.connect(_end, weak=False, dispatch_uid="pgactor.end")


def _keep_limits(instance: Any, conf: Any, **_: Any) -> None:
    """What the command line says (`--time-limit`), the processes that run the tasks are not told otherwise."""
    conf.task_time_limit = instance.time_limit
    conf.task_soft_time_limit = instance.soft_time_limit


def _end(task_id: str, **_: Any) -> None:
    if stack := _running.pop(task_id, None):
        stack.close()


def _limit(task: Task[Any, Any]) -> float | None:
    """The shorter of the limits that hold for this run: the caller's, the task's, the application's."""
    hard, soft = task.request.timelimit or (None, None)
    limits = (
        hard or task.time_limit or task.app.conf.task_time_limit,
        soft or task.soft_time_limit or task.app.conf.task_soft_time_limit,
    )
    return min((float(limit) for limit in limits if limit), default=None)
