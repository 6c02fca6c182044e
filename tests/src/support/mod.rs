//! See the crate's head.

pub mod bridged;
pub mod canary;
pub mod control;
pub mod ears;
pub mod gate;
pub mod grpc;
pub mod http;
pub mod http_sse;
pub mod issuer;
pub mod member;
pub mod modern;
pub mod net;
pub mod proc;
pub mod process;
pub mod raw;
mod reply;
pub mod scripted_control;
pub mod scripted_node;
pub mod server;
pub mod spool;
pub mod sse_server;
pub mod stdio_client;
#[cfg(target_os = "linux")]
pub mod swap;
pub mod token_server;
pub mod world;

use std::time::Duration;

/// Keeps a defect from hanging a run; never a bound that is being measured.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so, looking again whenever the runtime is otherwise idle.
///
/// # Panics
/// When it does not become so within [`PATIENCE`].
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// The same of what may take longer although nothing is wrong.
///
/// # Panics
/// When it does not become so within that time.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let look_again = Duration::from_millis(10);
    let found = tokio::time::timeout(patience, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(look_again).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// The value of a series in a scrape; 0 where it is not there yet.
///
/// # Panics
/// When it is no whole number.
pub fn metric(scrape: &str, series: &str) -> u64 {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a whole number"))
}
