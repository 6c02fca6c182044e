//! Calls at a rate that does not depend on how they are answered (an open loop): each has a time at which it should be sent,
//! and its latency counts from there, whenever a connection was free for it. So a stall shows in every call that it delayed.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{LoadClient, Outcome};
use super::latency::Latencies;
use super::metronome::Metronome;

/// What a time of load came to.
#[derive(Debug, Default)]
pub struct Window {
    pub latencies: Latencies,
    pub errors: Vec<String>,
    pub took: Duration,
}

/// When the next call is due.
#[derive(Debug, Clone)]
enum Pace {
    /// At once, until then.
    Closed { until: Instant },
    /// One after the other at a rate, whatever becomes of those before.
    OnTime(Metronome),
}

/// Sends at `rate` calls a second for so long, over these clients, each call on time; waits for the last answer.
///
/// # Panics
/// When a client does, or a thread cannot be had.
pub async fn on_time(clients: Vec<LoadClient>, rate: f64, length: Duration) -> (Vec<LoadClient>, Window) {
    let calls = (length.as_secs_f64() * rate) as u64;
    run(clients, &Pace::OnTime(Metronome::start(rate, calls))).await
}

/// Sends one call after the other on each client for so long.
///
/// # Panics
/// When a client does.
pub async fn closed_loop(clients: Vec<LoadClient>, length: Duration) -> (Vec<LoadClient>, Window) {
    run(clients, &Pace::Closed { until: Instant::now() + length }).await
}

async fn run(clients: Vec<LoadClient>, pace: &Pace) -> (Vec<LoadClient>, Window) {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for mut client in clients {
        let pace = pace.clone();
        running.spawn(async move {
            let mut window = Window::default();
            while let Some(due) = pace.next().await {
                echo(&mut client, due, &mut window).await;
            }
            (client, window)
        });
    }
    let (mut clients, mut all) = (Vec::new(), Window::default());
    while let Some(done) = running.join_next().await {
        let (client, window) = done.expect("a client panicked");
        clients.push(client);
        all.latencies.add(window.latencies);
        all.errors.extend(window.errors);
    }
    all.took = started.elapsed();
    (clients, all)
}

async fn echo(client: &mut LoadClient, due: Instant, window: &mut Window) {
    match client.call("echo", &json!({"x": 1})).await {
        Outcome::Result(_) => window.latencies.push(due.elapsed()),
        other => window.errors.push(format!("{other:?}")),
    }
}

// === impl Pace ===

impl Pace {
    /// Returns when a call is due, with when it was; nothing after the last.
    async fn next(&self) -> Option<Instant> {
        match self {
            // Not by a timer, which waits for the next millisecond even when nothing is left to wait for.
            Self::Closed { until } => Some(Instant::now()).filter(|now| now < until),
            Self::OnTime(metronome) => metronome.next().await,
        }
    }
}
