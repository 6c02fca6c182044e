//! One scrape: reads instruments, adds labels, writes the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use ostler_core::limits::SERIES_PER_METRIC_MAX;

use super::instruments::BUCKETS_US;
use super::{Counter, Gauge, Histogram, Kind, Metric};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Collects the series of one scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<Metric, Family>,
}

#[derive(Debug, Default)]
struct Family {
    lines: String,
    series: usize,
    dropped: u64,
}

impl Exposition {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn counter(&mut self, metric: Metric, labels: &[&str], counter: &Counter) {
        self.value(metric, labels, counter.get());
    }

    pub fn gauge(&mut self, metric: Metric, labels: &[&str], gauge: &Gauge) {
        self.value(metric, labels, gauge.get());
    }

    /// A value read elsewhere. Label values stand in the order of the metric's definition.
    pub fn value(&mut self, metric: Metric, labels: &[&str], value: impl std::fmt::Display) {
        let Some(lines) = self.admit(metric) else { return };
        write_sample(lines, metric, "", labels, None, value);
    }

    pub fn histogram(&mut self, metric: Metric, labels: &[&str], histogram: &Histogram) {
        let Some(lines) = self.admit(metric) else { return };
        let (cumulative, total, sum) = histogram.read();
        for (bound, count) in BUCKETS_US.iter().zip(cumulative) {
            let bound = format!("{}", std::time::Duration::from_micros(*bound).as_secs_f64());
            write_sample(lines, metric, "_bucket", labels, Some(&bound), count);
        }
        write_sample(lines, metric, "_bucket", labels, Some("+Inf"), total);
        write_sample(lines, metric, "_sum", labels, None, sum);
        write_sample(lines, metric, "_count", labels, None, total);
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        let dropped: Vec<_> = self
            .families
            .iter()
            .filter(|(_, family)| family.dropped > 0)
            .map(|(metric, family)| (*metric, family.dropped))
            .collect();
        for (metric, count) in dropped {
            self.value(Metric::SeriesDropped, &[metric.definition().name], count);
        }
        let mut text = String::new();
        for (metric, family) in self.families {
            let definition = metric.definition();
            let kind = match definition.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            write_help_line(&mut text, definition.name, None, None, definition.help);
            write_type_line(&mut text, definition.name, None, None, kind);
            text.push_str(&family.lines);
        }
        text
    }

    fn admit(&mut self, metric: Metric) -> Option<&mut String> {
        let family = self.families.entry(metric).or_default();
        if family.series >= SERIES_PER_METRIC_MAX {
            family.dropped += 1;
            return None;
        }
        family.series += 1;
        Some(&mut family.lines)
    }
}

fn write_sample(
    text: &mut String,
    metric: Metric,
    suffix: &str,
    labels: &[&str],
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    let definition = metric.definition();
    debug_assert_eq!(
        definition.labels.len(),
        labels.len(),
        "{} takes {:?}",
        definition.name,
        definition.labels
    );
    text.push_str(definition.name);
    text.push_str(suffix);
    let values = labels.iter().map(|value| sanitize_label_value(value));
    let pairs =
        definition.labels.iter().copied().zip(values).chain(bound.map(|bound| ("le", bound.to_owned())));
    for (index, (key, value)) in pairs.enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        // Writing to a String cannot fail.
        let _ = write!(text, "{key}=\"{value}\"");
    }
    if !labels.is_empty() || bound.is_some() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn writes_help_type_labels_and_escapes() {
        let mut exposition = Exposition::new();
        exposition.value(Metric::BuildInfo, &["control", "1\"2"], 1);
        exposition.value(Metric::ControlConnected, &[], 0);
        let text = exposition.finish();
        assert!(text.contains("# TYPE ostler_build_info gauge\n"), "{text}");
        assert!(text.contains("ostler_build_info{process=\"control\",version=\"1\\\"2\"} 1\n"), "{text}");
        assert!(text.contains("\nostler_control_connected 0\n"), "{text}");
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_in_infinity() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(3));
        let mut exposition = Exposition::new();
        exposition.histogram(Metric::RequestDuration, &["m", "u"], &histogram);
        let text = exposition.finish();
        assert!(text.contains("_bucket{mount=\"m\",upstream=\"u\",le=\"0.0025\"} 0\n"), "{text}");
        assert!(text.contains("_bucket{mount=\"m\",upstream=\"u\",le=\"0.005\"} 1\n"), "{text}");
        assert!(text.contains("_bucket{mount=\"m\",upstream=\"u\",le=\"+Inf\"} 1\n"), "{text}");
        assert!(text.contains("_sum{mount=\"m\",upstream=\"u\"} 0.003\n"), "{text}");
    }

    #[test]
    fn series_beyond_the_limit_are_counted_instead_of_written() {
        let mut exposition = Exposition::new();
        for _ in 0..SERIES_PER_METRIC_MAX + 3 {
            exposition.value(Metric::MountSessions, &["m", "u"], 1);
        }
        let text = exposition.finish();
        assert!(text.contains("ostler_metrics_series_dropped_total{metric=\"ostler_mount_sessions\"} 3\n"));
    }
}
