//! The load: connections on one thread that call as often as they are answered, or at a pace.
//!
//! At a pace, a call's time begins when it was due, not when it could be sent: what waits behind a slow answer counts as slow
//! (Tene, "How NOT to Measure Latency").

mod connection;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::calls::{self, Era, Prepared};
use crate::upstream::ANSWERED;
use connection::Connection;

/// What load is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Order {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    #[arg(long)]
    pub(crate) path: String,
    #[arg(long)]
    pub(crate) era: Era,
    #[arg(long)]
    pub(crate) tool: String,
    #[arg(long)]
    pub(crate) argument_bytes: usize,
    #[arg(long)]
    pub(crate) connections: u32,
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Calls a second of all connections together; as many as are answered without it.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Value of `Authorization`.
    #[arg(long)]
    pub(crate) authorization: Option<String>,
}

/// What came of it while it counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Counting,
    Over,
}

/// Said on a line of its own when calls begin to count.
pub(crate) const COUNTING: &str = "counting";
/// What does not count.
const WARM_UP: Duration = Duration::from_secs(1);
/// The longest time of a call that is told apart, and how finely.
const NANOS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

/// Prints [`COUNTING`] when it begins to count, and what came of it when it is over.
pub(crate) fn run(order: &Order) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(make(order))
}

async fn make(order: &Order) -> anyhow::Result<()> {
    let (phase, phases) = watch::channel(Phase::WarmUp);
    let mut greeted = Vec::new();
    for place in 0..order.connections {
        greeted.push((place, greet(order).await.with_context(|| format!("connection {place}"))?));
    }
    let mut clients = JoinSet::new();
    for (place, (connection, call)) in greeted {
        clients.spawn(call_on(connection, call, order.clone(), place, phases.clone()));
    }
    sleep(WARM_UP).await;
    let began = Instant::now();
    phase.send_replace(Phase::Counting);
    say(COUNTING)?;
    sleep(Duration::from_secs_f64(order.seconds)).await;
    phase.send_replace(Phase::Over);
    let seconds = began.elapsed().as_secs_f64();
    let mut times = histogram()?;
    while let Some(client) = clients.join_next().await {
        times.add(client??)?;
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
    let (p50_us, p90_us, p99_us, p999_us) = (at(0.5), at(0.9), at(0.99), at(0.999));
    let done = Done { calls: times.len(), seconds, p50_us, p90_us, p99_us, p999_us };
    say(&serde_json::to_string(&done)?)
}

/// A connection with a session, where the era has them, and the call that is made on it.
async fn greet(order: &Order) -> anyhow::Result<(Connection, Prepared)> {
    let host = order.to.to_string();
    let mut connection = Connection::open(order.to).await?;
    let with_credentials = |mut headers: Vec<(&'static str, String)>| {
        headers.extend(order.authorization.clone().map(|value| ("Authorization", value)));
        headers
    };
    let mut session = None;
    if order.era == Era::Legacy {
        let greeting = calls::post(&host, &order.path, &with_credentials(Vec::new()), &calls::initialize());
        session = connection.exchange(&greeting, &[b"protocolVersion"]).await?;
        let headers = with_credentials(calls::headers(order.era, &order.tool, session.as_deref()));
        connection.exchange(&calls::post(&host, &order.path, &headers, calls::INITIALIZED), &[]).await?;
    }
    let headers = with_credentials(calls::headers(order.era, &order.tool, session.as_deref()));
    let body = calls::call(order.era, &order.tool, order.argument_bytes);
    let call = Prepared::new(calls::post(&host, &order.path, &headers, &body)).context("a call has an id")?;
    Ok((connection, call))
}

/// Calls until the run is over; the times of the calls that ended while it counted.
async fn call_on(
    mut connection: Connection,
    mut call: Prepared,
    order: Order,
    place: u32,
    phase: watch::Receiver<Phase>,
) -> anyhow::Result<Histogram<u64>> {
    let mut times = histogram()?;
    let pace = order.rate.map(|rate| Duration::from_secs_f64(f64::from(order.connections) / rate));
    // Connections take turns.
    let mut due = Instant::now() + pace.unwrap_or_default() * place / order.connections;
    for number in 0.. {
        if let Some(pace) = pace {
            due += pace;
            sleep_until(due).await;
        }
        if *phase.borrow() == Phase::Over {
            break;
        }
        let began = if pace.is_some() { due } else { Instant::now() };
        let id = call.number(number);
        connection.exchange(&call.bytes, &[&id, ANSWERED]).await?;
        if *phase.borrow() == Phase::Counting {
            times.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(NANOS_MAX));
        }
    }
    Ok(times)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(NANOS_MAX, DIGITS)?)
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
