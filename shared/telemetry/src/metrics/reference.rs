//! The metrics reference, generated from the table of names.

use std::fmt::Write as _;

use super::{Kind, Metric};

/// Markdown for `docs/reference/metrics.md`.
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from the metric table in `shared/telemetry`; do not edit. Both planes serve these at \
         `/metrics` in the Prometheus text format. Label values come from config or from fixed words.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let definition = metric.definition();
        let kind = match definition.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels =
            definition.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {} |", definition.name, definition.help);
    }
    text
}
