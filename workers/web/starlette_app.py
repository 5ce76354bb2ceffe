"""The same with Starlette, for uvicorn's workers (see draining.py); FastAPI is used in the same way.

gunicorn -c workers/web/gunicorn.conf.py -k workers.web.draining.DrainingWorker workers.web.starlette_app:application
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pgactor import AsyncClient, OutcomeUnknown, PoolError, RequestTimeout
from pgactor.contrib.asgi import Labelled, starlette_route

CHANGE = "UPDATE accounts SET balance = balance + $2 WHERE id = $1 AND balance + $2 >= 0"
RECORD = "INSERT INTO transfers VALUES ($1, $2, $3, $4, 'web') ON CONFLICT DO NOTHING"
RECORDED = "SELECT source, target, amount FROM transfers WHERE key = $1"


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for each process, from its start to its end."""
    async with AsyncClient(label="web") as client:  # $PGACTOR_ENDPOINT says where
        app.state.client = client
        yield


def client_of(request: Request) -> AsyncClient:
    """This process's client."""
    client: AsyncClient = request.app.state.client
    return client


async def account(request: Request) -> Response:
    """One statement: it travels with those of other workers, and holds no connection."""
    row = await client_of(request).fetchrow(
        "SELECT id, owner, balance FROM accounts WHERE id = $1", request.path_params["number"]
    )
    return JSONResponse(dict(row)) if row else PlainTextResponse("no such account", 404)


async def transfer(request: Request) -> Response:
    """A transaction whose statements depend on each other: a lease, for as long as the `async with` lasts.

    Who is not sure of the outcome asks again with the same key: then it was made before (200), or is made now (201).
    """
    form = await request.form()
    source, target, amount = (int(str(form.get(name))) for name in ("source", "target", "amount"))
    key = uuid.UUID(str(form["key"])) if "key" in form else uuid.uuid4()
    async with client_of(request).transaction() as lease:
        if await lease.execute(RECORD, key, source, target, amount) == "INSERT 0 0":
            if await lease.fetchrow(RECORDED, key) != (source, target, amount):
                raise HTTPException(409, f"the key {key} is another transfer's")
            return JSONResponse({"key": str(key)}, 200)
        for number, change in sorted([(source, -amount), (target, amount)]):  # in one order: no deadlocks
            if await lease.execute(CHANGE, number, change) == "UPDATE 0":
                raise HTTPException(409, f"account {number} is not there, or has too little")  # all is rolled back
    return JSONResponse({"key": str(key)}, 201)


async def report(request: Request) -> Response:
    """Something slow: so many seconds in PostgreSQL."""
    seconds = float(request.query_params.get("seconds", "1"))
    sql = "SELECT sum(balance)::bigint FROM accounts, pg_sleep($1)"
    return JSONResponse({"total": await client_of(request).fetchval(sql, seconds)})


async def health(request: Request) -> Response:
    """What the container's health check asks for: this process serves, and so does the pool behind it."""
    await client_of(request).fetchval("SELECT 1", timeout=2)
    return PlainTextResponse("ok")


def pool_is_busy(request: Request, error: Exception) -> Response:
    """Nothing was run: the caller may come again."""
    return PlainTextResponse(str(error), 503)


def took_too_long(request: Request, error: Exception) -> Response:
    """Of an OutcomeUnknown nobody knows whether it happened: ask again with the same key."""
    return PlainTextResponse(str(error), 504)


def no_such_account(request: Request, error: Exception) -> Response:
    """A transfer from or to an account that is not there."""
    return PlainTextResponse(str(getattr(error, "detail", error)), 409)


def bad_request(request: Request, error: Exception) -> Response:
    """What is no number here, or none to PostgreSQL, whose errors are asyncpg's classes."""
    return PlainTextResponse(str(error), 400)


_app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/accounts/{number:int}", account),
        Route("/transfers", transfer, methods=["POST"]),
        Route("/report", report),
        Route("/health", health),
    ],
    exception_handlers={
        PoolError: pool_is_busy,
        RequestTimeout: took_too_long,
        OutcomeUnknown: took_too_long,
        asyncpg.ForeignKeyViolationError: no_such_account,
        ValueError: bad_request,
        asyncpg.DataError: bad_request,
    },
)
application = Labelled(_app, route=starlette_route(_app), timeout=20)
