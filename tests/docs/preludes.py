"""What a page's Python takes for given, and what has to be true when all of it has run."""

from __future__ import annotations

_USERS = """
import pgactor
from pgactor import Client

client = Client()
client.execute("create table users (id int primary key, name text, orders int not null default 0)")
client.execute("create table orders (id serial primary key, user_id int references users)")
client.execute("insert into users (id, name) values (42, 'Ada')")
"""

_FLASK = """
import flask
import pgactor
import pgactor.contrib.asgi
import pgactor.contrib.celery
import pgactor.contrib.wsgi
from pgactor.contrib.asgi import starlette_route
from pgactor.contrib.wsgi import flask_route

app = flask.Flask("app")

@app.get("/names/<name>")
def show(name):
    assert 0 < pgactor.deadline.remaining() <= 20
    return client.fetchval("select $1::text", pgactor.label.get())
"""

_FLASK_ANSWERS = """
assert app.test_client().get("/names/ada").text == "GET /names/<name>"
"""

BEFORE = {
    "README.md": _USERS,
    "docs/asyncpg.md": """
import json
from types import SimpleNamespace

import asyncpg as theirs
import pgactor

made = []

async def create_pool(*args, **options):
    made.append(await theirs.create_pool(*args, **options))
    return made[0]

async def set_codecs(connection):
    await connection.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

asyncpg = SimpleNamespace(create_pool=create_pool)          # so that it can be closed
""",
    "docs/deploying.md": _FLASK,
    "docs/listening.md": """
import asyncio

from pgactor import AsyncClient

client = AsyncClient()
heard = []

def reload(channel):
    raise AssertionError(channel)

def handle(channel, payload, pid):
    heard.append((channel, payload))
    raise Enough

async def send():
    while not heard:
        await client.notify("orders", "41")
        await asyncio.sleep(0.02)

sending = asyncio.get_running_loop().create_task(send())
await asyncio.sleep(0)
""",
    "docs/observability.md": """
import os

import pgactor

endpoint = os.environ["PGACTOR_ENDPOINT"]
""",
    "docs/piccolo.md": """
import gc
import sys
import warnings
from types import ModuleType

import pgactor
from piccolo.columns import Varchar
from piccolo.engine import PostgresEngine
from piccolo.table import Table

from pgactor.contrib.piccolo import PgactorEngine

warnings.simplefilter("ignore", ResourceWarning)  # engines ask for the version in a loop of their own, which ends

class Conf(ModuleType):
    DB = property(lambda module: DB)

class Band(Table):
    name = Varchar()

sys.modules["piccolo_conf"] = Conf("piccolo_conf")
with pgactor.Client() as client:
    client.execute("create table band (id serial primary key, name varchar)")
""",
    "docs/psycopg.md": _USERS,
    "docs/security.md": """
from click.testing import CliRunner

from pgactor import Client
from pgactor.cli import cli

for keys in (["server"], ["client", "celery"]):
    assert CliRunner().invoke(cli, ["keygen", *keys, "--directory", "/etc/app/"]).exit_code == 0
""",
    "docs/troubleshooting.md": _USERS,
    "workers/README.md": _FLASK
    + """
from pathlib import Path

for statement in Path("workers/schema.sql").read_text().split(";\\n"):
    pgactor.Client().execute(statement)
""",
}
"""Run before the first block of the page."""

AFTER = {
    "README.md": """
[user] = client.fetch("select name, orders from users")
assert (user["name"], user["orders"]) == ("Ada Lovelace", 1)
assert client.fetchval("select count(*) from orders") == 2
""",
    "docs/asyncpg.md": """
for each in (pool, *made):
    assert await each.fetchval("select 1") == 1
    await each.close()
assert len(made) == 1
""",
    "docs/deploying.md": _FLASK_ANSWERS,
    "docs/listening.md": """
assert heard == [("orders", "41")]
await sending
await client.close()
""",
    "docs/observability.md": """
assert client.fetchval("select 1") == 1
otel.uninstrument()
""",
    "docs/p3orm.md": "await postgres().disconnect()",
    "docs/piccolo.md": """
del sys.modules["piccolo_conf"], DB, Band
gc.collect()
""",
    "docs/psqlpy.md": "pool.close()",
    "docs/psycopg.md": """
assert row["name"] == "Ada"
assert client.fetchval("select name from users") == "Ada Lovelace"

import asyncpg

try:
    client.fetchval("select $1::int + 1", "41")
except asyncpg.DataError as error:
    assert "$1" in str(error)
else:
    raise AssertionError("a text was taken for an int")
with client.acquire() as lease:
    lease.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    assert lease.fetchval("select $1::jsonb", {"a": 1}) == {"a": 1}
""",
    "docs/sizing.md": "assert max_size == 6",
    "docs/troubleshooting.md": 'assert name == "Ada"',
    "workers/README.md": _FLASK_ANSWERS,
}
"""Run after the last."""
