"""Traces and comments, from the worker to PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import asyncpg
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import pgactor
from pgactor import AsyncClient, Client
from pgactor.client import tracing
from pgactor.contrib import otel
from tests.supervising import StartSupervisor, SupervisorProcess, until

OWN_TEXT = "select query from pg_stat_activity where pid = pg_backend_pid()"


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    provider = TracerProvider()
    yield provider
    otel.uninstrument()
    provider.shutdown()


@pytest.fixture
def spans(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel.instrument(provider)
    return exporter


def finished(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind is SpanKind.CLIENT]


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_each_request_within_a_span_is_a_span(
    supervisor: SupervisorProcess, provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    with Client(supervisor.ipc) as client, provider.get_tracer("app").start_as_current_span("web") as parent:
        assert client.fetchval("select $1::int", 7) == 7
        with client.acquire() as lease:
            lease.execute("select 2")
        client.batch(["select 3", "select 4"])
    names = [span.name for span in finished(spans)]
    assert names == ["SELECT", "acquire", "SELECT", "SELECT"]
    for span in finished(spans):
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        assert attributes(span)["db.system.name"] == "postgresql"
    first, acquired, *_, batch = map(attributes, finished(spans))
    assert first["db.query.text"] == "select $1::int"
    assert isinstance(acquired["pgactor.queue_wait"], float)
    assert batch["db.operation.batch.size"] == 2


def test_without_a_span_around_it_a_request_is_not_traced(
    supervisor: SupervisorProcess, spans: InMemorySpanExporter
) -> None:
    with Client(supervisor.ipc) as client:
        client.fetchval("select 1")
    assert finished(spans) == []


async def test_an_async_request_is_traced_and_its_error_told(
    supervisor: SupervisorProcess, provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    async with AsyncClient(supervisor.ipc) as client:
        with provider.get_tracer("app").start_as_current_span("web"):
            with pytest.raises(asyncpg.UndefinedTableError):
                await client.fetch("select * from there_is_no_such_table")
            await client.execute("select 1")
    failed, well = finished(spans)
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed)["error.type"] == "UndefinedTableError"
    assert well.status.status_code is StatusCode.UNSET


def test_texts_can_be_left_out(supervisor: SupervisorProcess, provider: TracerProvider) -> None:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel.instrument(provider, statements=False)
    with Client(supervisor.ipc) as client, provider.get_tracer("app").start_as_current_span("web"):
        client.fetchval("select 1")
    (span,) = finished(exporter)
    assert "db.query.text" not in attributes(span)


def test_the_supervisor_knows_the_trace_of_a_lease(
    start_supervisor: StartSupervisor, provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    supervisor = start_supervisor(flags=("--log-format", "json"), pool={"lease_warning_seconds": 0.1})
    with (
        Client(supervisor.ipc) as client,
        provider.get_tracer("app").start_as_current_span("web") as parent,
        client.acquire(),
    ):
        trace = f"{parent.get_span_context().trace_id:032x}"
        assert trace in client.status().leases[0].traceparent
        until(lambda: "is held for" in supervisor.log.read_text())
    line = next(line for line in supervisor.log.read_text().splitlines() if "is held for" in line)
    assert trace in json.loads(line)["traceparent"]


def test_comments_are_seen_by_postgresql(
    supervisor: SupervisorProcess, provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    with Client(supervisor.ipc, comments=True) as client, pgactor.label("GET /orders"):
        assert client.fetchval(OWN_TEXT) == f"{OWN_TEXT} /*route='{quote('GET /orders', safe='')}'*/"
        with provider.get_tracer("app").start_as_current_span("web") as parent:
            seen = client.fetchval(OWN_TEXT)
    assert f"{parent.get_span_context().trace_id:032x}" in seen


def test_a_trace_that_is_not_sampled_is_in_no_comment(supervisor: SupervisorProcess) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    otel.instrument(provider)
    try:
        with (
            Client(supervisor.ipc, comments=True) as client,
            provider.get_tracer("app").start_as_current_span("web"),
        ):
            assert client.fetchval(OWN_TEXT) == OWN_TEXT
    finally:
        otel.uninstrument()
        provider.shutdown()


async def test_comments_of_an_async_client(supervisor: SupervisorProcess) -> None:
    async with AsyncClient(supervisor.ipc, comments=True) as client:
        with pgactor.label("job"):
            assert await client.fetchval(OWN_TEXT) == f"{OWN_TEXT} /*route='job'*/"
        assert await client.fetchval(OWN_TEXT) == OWN_TEXT


def test_without_instrumenting_there_is_no_tracer() -> None:
    assert tracing.tracer is None
