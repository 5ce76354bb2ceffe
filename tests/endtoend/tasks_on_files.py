"""The example's tasks, with a folder as their broker: `celery --app tests.endtoend.tasks_on_files worker`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workers.tasks.app import app as application


def on_files(folder: Path) -> dict[str, Any]:
    """Celery's settings for tasks and results in this folder."""
    for name in ("tasks", "control", "results"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(folder / "tasks"),
            "data_folder_out": str(folder / "tasks"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        },
        "result_backend": f"file://{folder}/results",
        "task_soft_time_limit": None,
        "task_time_limit": None,
    }


if "TASKS_FOLDER" in os.environ:
    application.conf.update(on_files(Path(os.environ["TASKS_FOLDER"])))
