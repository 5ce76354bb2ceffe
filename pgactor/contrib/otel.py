"""OpenTelemetry: a span for each request that is made within one, and the trace's context carried to the supervisor.

    from pgactor.contrib import otel

    otel.instrument()

From then on each request of this process's clients is a span of kind CLIENT, if it is made within another span; it
has OpenTelemetry's own names for databases, and `pgactor.queue_wait`, in seconds, where the reply tells it. Without a
span around it, a request is not traced. Nothing is traced twice by instrumenting twice. COPY and listening are not
traced. Needs the `otel` extra.
"""

from __future__ import annotations

from types import TracebackType

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from ..client import tracing
from ..client.pending import Pending
from ..messages import Acquire, Batch, Execute, ExecuteMany, Failed, Fetch, FetchMany, Granted, Request
from ..version import __version__

_TRACED = Acquire | Batch | Execute | ExecuteMany | Fetch | FetchMany


class _Trace:
    """The span of one request."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> _Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._failed(type(error).__name__, str(error))
        self._span.end()

    def answered(self, pending: Pending) -> None:
        """The reply has come, or the link was lost."""
        reply = pending.reply
        if pending.error is not None:
            self._failed(type(pending.error).__name__, str(pending.error))
        elif isinstance(reply, Failed):
            self._failed(reply.error_class or reply.code, reply.message)
        elif isinstance(reply, Granted):
            self._span.set_attribute("pgactor.queue_wait", reply.waited)

    def _failed(self, name: str, words: str) -> None:
        self._span.set_attribute("error.type", name)
        self._span.set_status(StatusCode.ERROR, words.partition("\n")[0][:500])


class _Tracer:
    """Makes the spans. statements: whether they have the statements' texts."""

    def __init__(self, tracer: trace.Tracer, *, statements: bool) -> None:
        self._tracer = tracer
        self._statements = statements

    def begin(self, request: Request) -> _Trace | None:
        """A span within the one that is active. None: there is none, or the request has its span."""
        if not isinstance(request, _TRACED) or request.traceparent:
            return None
        if not trace.get_current_span().get_span_context().is_valid:
            return None
        text = _text(request)
        verb = text.split(None, 1)[0].upper()[:40] if text.strip() else type(request).__name__.lower()
        span = self._tracer.start_span(verb, kind=SpanKind.CLIENT)
        context = span.get_span_context()
        request.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        if span.is_recording():
            span.set_attribute("db.system.name", "postgresql")
            span.set_attribute("db.operation.name", verb)
            if text and self._statements:
                span.set_attribute("db.query.text", text)
            if isinstance(request, Batch):
                span.set_attribute("db.operation.batch.size", len(request.statements))
        return _Trace(span)


def instrument(tracer_provider: TracerProvider | None = None, *, statements: bool = True) -> None:
    """Trace the requests of all clients of this process. tracer_provider: default: the global one. statements:
    whether spans have the statements' texts, which never have the arguments in them."""
    tracer = trace.get_tracer("pgactor", __version__, tracer_provider)
    tracing.tracer = _Tracer(tracer, statements=statements)


def uninstrument() -> None:
    """Trace them no more."""
    tracing.tracer = None


def _text(request: Request) -> str:
    if isinstance(request, Batch):
        return "; ".join(sql for sql, _ in request.statements[:20])
    return "" if isinstance(request, Acquire) else str(getattr(request, "sql", ""))
