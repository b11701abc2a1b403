//! Log lines for people and machines, and traces for those who collect them.
//!
//! A migration is one trace, whose id is the migration's own: whoever knows one knows the other,
//! whatever process has written the spans.

use std::{collections::HashMap, io::IsTerminal};

use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{
        SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};
use uuid::Uuid;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends what is left of the traces when it is dropped.
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            _ = provider.shutdown(); // nobody is left who could be told
        }
    }
}

/// Begins to log to standard error, and to export traces if an endpoint is given.
///
/// # Errors
/// If the filter cannot be read, the exporter cannot be made, or logging has begun already.
pub fn init(filter: &str, format: Format, endpoint: Option<&str>) -> anyhow::Result<Guard> {
    let filter = filter.parse::<EnvFilter>()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().boxed(),
    };
    let provider = endpoint.map(provider).transpose()?;
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("rehull")));
    tracing_subscriber::registry().with(filter).with(lines).with(traces).try_init()?;
    Ok(Guard(provider))
}

fn provider(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let resource = Resource::builder().with_service_name("rehull").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
    Ok(provider.with_resource(resource).build())
}

/// Puts a span into the trace of a migration. Without an exporter it does nothing.
pub fn belongs_to(span: &Span, migration: Uuid) {
    // The span of the whole migration is made from its events; until then it is a name.
    let [.., a, b, c, d, e, f, g, h] = migration.into_bytes();
    let root = SpanContext::new(
        TraceId::from_bytes(migration.into_bytes()),
        SpanId::from_bytes([a, b, c, d, e, f, g, h]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    _ = span.set_parent(Context::new().with_remote_span_context(root)); // no layer, no trace
}

/// The W3C `traceparent` of the current span; empty if nobody collects traces.
pub fn traceparent() -> String {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.remove("traceparent").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;
    use tracing::info_span;

    use super::*;

    #[test]
    fn spans_of_a_migration_are_one_trace_and_its_context_goes_out() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let migration = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        let told =
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                let span = info_span!("pass");
                belongs_to(&span, migration);
                span.in_scope(|| {
                    info_span!("command").in_scope(|| ());
                    traceparent()
                })
            });
        let spans = exporter.get_finished_spans().unwrap();
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["command", "pass"]);
        let (command, pass) = (&spans[0], &spans[1]);
        for span in &spans {
            assert_eq!(span.span_context.trace_id().to_bytes(), migration.into_bytes());
        }
        assert_eq!(command.parent_span_id, pass.span_context.span_id());
        let pass = pass.span_context.span_id();
        assert_eq!(told, format!("00-{}-{pass}-01", migration.simple()));
    }

    #[test]
    fn without_a_collector_there_is_no_context() {
        let span = info_span!("pass");
        belongs_to(&span, Uuid::nil());
        assert_eq!(span.in_scope(traceparent), "");
    }
}
