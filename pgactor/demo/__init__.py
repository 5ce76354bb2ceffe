"""`pgactor demo`: a database, a supervisor and many worker processes, for real.

job.py      what one worker process does, and what it tells of it
witness.py  what PostgreSQL itself says meanwhile, and in the end
run.py      starts everything, kills one worker, shows progress and the sum
"""

from .run import run_demo

__all__ = ["run_demo"]
