"""A Flask application. `application` is what gunicorn's sync, gthread and gevent workers serve.

gunicorn -c workers/web/gunicorn.conf.py workers.web.flask_app:application
"""

from __future__ import annotations

import uuid

import asyncpg
from flask import Flask, Response, abort, jsonify, request

from pgactor import Client, OutcomeUnknown, PoolError, RequestTimeout
from pgactor.contrib.wsgi import Labelled, flask_route

client = Client(label="web")  # $PGACTOR_ENDPOINT says where; it connects when first used, in each process anew
application = Flask(__name__)
application.wsgi_app = Labelled(  # type: ignore[method-assign]  # Flask's own way to add a middleware
    application.wsgi_app, route=flask_route(application), timeout=20
)

CHANGE = "UPDATE accounts SET balance = balance + $2 WHERE id = $1 AND balance + $2 >= 0"
RECORD = "INSERT INTO transfers VALUES ($1, $2, $3, $4, 'web') ON CONFLICT DO NOTHING"
RECORDED = "SELECT source, target, amount FROM transfers WHERE key = $1"


@application.get("/accounts/<int:number>")
def account(number: int) -> Response:
    """One statement: it travels with those of other workers, and holds no connection."""
    row = client.fetchrow("SELECT id, owner, balance FROM accounts WHERE id = $1", number)
    return jsonify(dict(row)) if row else abort(404)


@application.post("/transfers")
def transfer() -> tuple[Response, int]:
    """A transaction whose statements depend on each other: a lease, for as long as the `with` lasts.

    Who is not sure of the outcome asks again with the same key: then it was made before (200), or is made now (201).
    """
    source, target, amount = (int(request.form[name]) for name in ("source", "target", "amount"))
    key = uuid.UUID(request.form["key"]) if "key" in request.form else uuid.uuid4()
    with client.transaction() as lease:
        if lease.execute(RECORD, key, source, target, amount) == "INSERT 0 0":
            if lease.fetchrow(RECORDED, key) != (source, target, amount):
                abort(409, f"the key {key} is another transfer's")
            return jsonify(key=str(key)), 200
        for number, change in sorted([(source, -amount), (target, amount)]):  # in one order: no deadlocks
            if lease.execute(CHANGE, number, change) == "UPDATE 0":
                abort(409, f"account {number} is not there, or has too little")  # and all is rolled back
    return jsonify(key=str(key)), 201


@application.get("/report")
def report() -> Response:
    """Something slow: so many seconds in PostgreSQL."""
    seconds = float(request.args.get("seconds", 1))
    total = client.fetchval("SELECT sum(balance)::bigint FROM accounts, pg_sleep($1)", seconds)
    return jsonify(total=total)


@application.get("/health")
def health() -> str:
    """What the container's health check asks for: this process serves, and so does the pool behind it."""
    client.fetchval("SELECT 1", timeout=2)
    return "ok"


@application.errorhandler(PoolError)
def pool_is_busy(error: PoolError) -> tuple[str, int]:
    """Nothing was run: the caller may come again."""
    return str(error), 503


@application.errorhandler(RequestTimeout)
@application.errorhandler(OutcomeUnknown)
def took_too_long(error: Exception) -> tuple[str, int]:
    """Of an OutcomeUnknown nobody knows whether it happened: ask again with the same key."""
    return str(error), 504


@application.errorhandler(asyncpg.ForeignKeyViolationError)
def no_such_account(error: asyncpg.ForeignKeyViolationError) -> tuple[str, int]:
    """A transfer from or to an account that is not there."""
    return str(error.detail), 409


@application.errorhandler(ValueError)
@application.errorhandler(asyncpg.DataError)
def bad_request(error: Exception) -> tuple[str, int]:
    """What is no number here, or none to PostgreSQL, whose errors are asyncpg's classes."""
    return str(error), 400
