"""OpenTelemetry traces: a span for each call from outside, with a child span for each statement."""

from __future__ import annotations

from contextvars import Token
from typing import TYPE_CHECKING, Any

from apex._lazy import extra
from apex.app import Apex
from apex.observability.observations import BEGUN, ENDED, Observation
from apex.observability.redaction import request_id_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

LONGEST: int = 1_000
"""The number of characters of a statement that a span holds. Values are never in it."""


def tracing(app: Apex, provider: TracerProvider | None = None) -> None:
    """Make traces if the app's setting ``tracing`` is on.

    Call it after the database is configured: ``app.configure(tracing)``. Without a ``provider`` the variables
    ``OTEL_EXPORTER_OTLP_*`` name the collector. Raises ConfigError if a library is missing.
    """
    if not app.get("tracing"):
        return
    with extra("tracing", "Tracing"):
        traces = Traces(_exporting_provider() if provider is None else provider)
    app.on(BEGUN, traces.begin)
    app.on(ENDED, traces.end)


class Traces:
    """The spans of running calls.

    The parent of a span is the caller's ``traceparent`` or the batch that contains the call. Spans that hooks start
    are children of the call's span.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.context, self.trace = context, trace
        self.propagator: TraceContextTextMapPropagator = TraceContextTextMapPropagator()
        self.provider: TracerProvider = provider
        self.tracer: Tracer = provider.get_tracer("apex")
        self.open: dict[Observation, tuple[Span, Token[Any]]] = {}

    def begin(self, seen: Observation) -> None:
        """Start the span of a call."""
        parent = self._parent(seen)
        started = int(seen.unix_time(seen.began) * 1e9)
        span = self.tracer.start_span("call", parent, self.trace.SpanKind.SERVER, start_time=started)
        if seen.parts is None:
            seen.parts = []
        self.open[seen] = span, self.context.attach(self.trace.set_span_in_context(span, parent))

    def _parent(self, seen: Observation) -> Context:
        if seen.outer in self.open:
            return self.trace.set_span_in_context(self.open[seen.outer][0])
        return self.propagator.extract(seen.headers)

    def end(self, seen: Observation) -> None:
        """Name the span of a call, add the spans of its statements, and end it."""
        span, token = self.open.pop(seen)
        self.context.detach(token)
        self._add_parts(span, seen)
        span.update_name(f"{seen.path} {seen.method}".strip())
        for name, value in _attributes(seen).items():
            span.set_attribute(name, value)
        if seen.status >= 500:
            span.set_status(self.trace.StatusCode.ERROR)
        span.end(int(seen.unix_time(seen.began + seen.seconds) * 1e9))

    def _add_parts(self, span: Span, seen: Observation) -> None:
        inside = self.trace.set_span_in_context(span)
        for part in seen.parts or ():
            made = self.tracer.start_span(
                part.name, inside, self.trace.SpanKind.CLIENT, start_time=int(seen.unix_time(part.began) * 1e9)
            )
            if part.text:
                made.set_attribute("db.query.text", part.text[:LONGEST])
            made.end(int(seen.unix_time(part.ended) * 1e9))


def _attributes(seen: Observation) -> dict[str, Any]:
    attributes: dict[str, Any] = {
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
    return {name: value for name, value in attributes.items() if value is not None}


def _exporting_provider() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider as Provider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = Provider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
