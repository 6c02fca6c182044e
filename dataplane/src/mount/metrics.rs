//! What a mount counts. Read when somebody scrapes, gone with the mount.

use ostler_mcp::Reason;
use ostler_telemetry::metrics::{Counter, Exposition, Gauge, Histogram, Metric};

/// Counters of one mount.
#[derive(Debug, Default)]
pub struct MountMetrics {
    pub in_flight: Gauge,
    pub duration: Histogram,
    /// Notifications of resources that their clients may not subscribe to.
    pub updates_withheld: Counter,
    ok: Counter,
    jsonrpc_error: Counter,
    refused: [Counter; Reason::ALL.len()],
}

/// How a request ended, from a fixed list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The upstream answered with an HTTP error that carries a JSON-RPC error.
    JsonRpcError,
    /// Not the MCP endpoint, or a verb that it does not have. Belongs to no mount.
    NotFound,
    /// Ostler's own error.
    Refused(Reason),
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::JsonRpcError => "jsonrpc_error",
            Self::NotFound => "not_found",
            Self::Refused(reason) => reason.name(),
        }
    }
}

impl MountMetrics {
    pub fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Ok => Some(&self.ok),
            Outcome::JsonRpcError => Some(&self.jsonrpc_error),
            Outcome::NotFound => None,
            Outcome::Refused(reason) => Reason::ALL
                .iter()
                .position(|known| *known == reason)
                .and_then(|index| self.refused.get(index)),
        };
        if let Some(counter) = counter {
            counter.increment();
        }
    }

    /// Writes what this mount has counted; outcomes that never happened are left out.
    pub fn expose(&self, exposition: &mut Exposition, mount: &str, upstream: &str) {
        exposition.counter(Metric::Requests, &[mount, upstream, Outcome::Ok.as_str()], &self.ok);
        let refused = Reason::ALL
            .iter()
            .zip(&self.refused)
            .map(|(reason, counter)| (Outcome::Refused(*reason), counter));
        for (outcome, counter) in std::iter::once((Outcome::JsonRpcError, &self.jsonrpc_error)).chain(refused)
        {
            if counter.get() > 0 {
                exposition.counter(Metric::Requests, &[mount, upstream, outcome.as_str()], counter);
            }
        }
        exposition.histogram(Metric::RequestDuration, &[mount, upstream], &self.duration);
        exposition.counter(Metric::MountUpdatesWithheld, &[mount, upstream], &self.updates_withheld);
        exposition.gauge(Metric::MountInFlight, &[mount, upstream], &self.in_flight);
    }
}
