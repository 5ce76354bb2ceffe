"""gunicorn's settings. None of them is for pgactor: it needs no hook, no post_fork, and no `preload_app = False`."""

import os

bind = os.environ.get("WEB_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_WORKERS", "4"))
worker_class = os.environ.get("WEB_WORKER_CLASS", "sync")  # gthread, gevent, workers.web.draining.DrainingWorker
threads = int(os.environ.get("WEB_THREADS", "1"))
preload_app = True  # the application is imported once, and then forked; its client with it
max_requests = int(os.environ.get("WEB_MAX_REQUESTS", "10000"))  # then a worker is replaced: leaks do not last
max_requests_jitter = max_requests // 10
timeout = 30  # the applications' own is 20: a slow statement ends before its worker is killed
graceful_timeout = 30
worker_tmp_dir = "/dev/shm"
control_socket_disable = True  # of gunicorn 25 and later; its folder would have to be one of this user
