# Two images: `supervisor`, which owns the connections, and `workers`, with the example applications.
# Their users differ; what they share is the group that may connect to the supervisor's socket, and its folder.
FROM python:3.13-slim AS base
RUN groupadd --gid 10000 pgactor \
 && for name in supervisor web tasks; do useradd --no-create-home --gid pgactor --shell /usr/sbin/nologin "$name"; done \
 && install -d -o supervisor -g pgactor -m 2750 /run/pgactor
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

FROM base AS supervisor
COPY pyproject.toml README.md LICENSE ./
COPY pgactor pgactor
RUN pip install .
USER supervisor
VOLUME /run/pgactor
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["pgactor", "status"]
ENTRYPOINT ["pgactor"]
CMD ["serve"]

FROM base AS workers
COPY pyproject.toml README.md LICENSE ./
COPY pgactor pgactor
RUN pip install '.[workers]'
COPY workers workers
USER web
CMD ["gunicorn", "--config", "workers/web/gunicorn.conf.py", "workers.web.flask_app:application"]
