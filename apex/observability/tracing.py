"""Traces of OpenTelemetry: a span for each call from outside, with spans below it for what it asks of the database."""

from __future__ import annotations

from contextvars import Token
from typing import TYPE_CHECKING, Any

from apex.app import Apex
from apex.lazy import extra
from apex.observability.observations import BEGUN, ENDED, Observation
from apex.observability.redaction import request_id_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

LONGEST = 1_000
"""Characters of a statement that are told. Its values are never in it."""


def tracing(app: Apex, provider: TracerProvider | None = None) -> None:
    """Configures traces, after the database: ``app.configure(tracing)``. Nothing unless its settings say ``tracing``.

    Without a ``provider`` spans go where the variables ``OTEL_EXPORTER_OTLP_*`` say. Raises ConfigError where a library
    is missing.
    """
    if not app.get("tracing"):
        return
    with extra("tracing", "Tracing"):
        traces = Traces(_exporting() if provider is None else provider)
    app.on(BEGUN, traces.begin)
    app.on(ENDED, traces.end)


class Traces:
    """The spans of calls under way: a caller's ``traceparent`` is the parent, or the batch that a call is of, and they
    are that of what hooks do.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.context, self.trace = context, trace
        self.propagator = TraceContextTextMapPropagator()
        self.provider = provider
        self.tracer = provider.get_tracer("apex")
        self.open: dict[Observation, tuple[Span, Token[Any]]] = {}

    def begin(self, seen: Observation) -> None:
        """Begins the span of a call; its parent and its name become known with the call."""
        parent = self._parent(seen)
        started = int(seen.moment(seen.began) * 1e9)
        span = self.tracer.start_span("call", parent, self.trace.SpanKind.SERVER, start_time=started)
        if seen.parts is None:
            seen.parts = []
        self.open[seen] = span, self.context.attach(self.trace.set_span_in_context(span, parent))

    def _parent(self, seen: Observation) -> Context:
        if seen.outer in self.open:
            return self.trace.set_span_in_context(self.open[seen.outer][0])
        return self.propagator.extract(seen.headers)

    def end(self, seen: Observation) -> None:
        span, token = self.open.pop(seen)
        self.context.detach(token)
        self._add_parts(span, seen)
        span.update_name(f"{seen.path} {seen.method}".strip())
        for name, value in _attributes(seen).items():
            span.set_attribute(name, value)
        if seen.status >= 500:
            span.set_status(self.trace.StatusCode.ERROR)
        span.end(int(seen.moment(seen.began + seen.seconds) * 1e9))

    def _add_parts(self, span: Span, seen: Observation) -> None:
        inside = self.trace.set_span_in_context(span)
        for part in seen.parts or ():
            made = self.tracer.start_span(
                part.name, inside, self.trace.SpanKind.CLIENT, start_time=int(seen.moment(part.began) * 1e9)
            )
            if part.text:
                made.set_attribute("db.query.text", part.text[:LONGEST])
            made.end(int(seen.moment(part.ended) * 1e9))


def _attributes(seen: Observation) -> dict[str, Any]:
    told = {
        "apex.service": seen.path,
        "apex.method": seen.method,
        "apex.provider": seen.provider,
        "apex.request_id": request_id_of(seen),
        "http.response.status_code": seen.status,
        "enduser.id": None if seen.user is None else str(seen.user),
        "apex.tenants": [str(tenant) for tenant in seen.tenants] or None,
        "error.type": None if seen.error is None else type(seen.error).__name__,
        "apex.hook": seen.hook,
    }
    return {name: value for name, value in told.items() if value is not None}


def _exporting() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider as Provider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = Provider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
