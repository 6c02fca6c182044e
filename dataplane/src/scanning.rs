//! Scans a message without holding its traffic worker: a large one in steps, with everything else that is ready on the
//! worker in between. It must never judge anything itself, nor make a small message wait.

use ostler_core::limits::{MESSAGE_SCAN_STEP_BYTES, MESSAGE_SCANNED_AT_ONCE_BYTES_MAX};
use ostler_mcp::{Envelope, EnvelopeError, Scan};
use tokio::task::yield_now;

/// Whether it takes more than one step.
pub(crate) fn is_large(body: &[u8]) -> bool {
    body.len() > MESSAGE_SCANNED_AT_ONCE_BYTES_MAX
}

/// [`Envelope::scan`], in steps if it [`is_large`].
pub(crate) async fn scan(body: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
    if is_large(body) { Box::pin(in_steps(body)).await } else { Envelope::scan(body) }
}

async fn in_steps(body: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
    yield_now().await;
    let mut scan = Scan::begin(body)?;
    loop {
        // The check of its UTF-8 was a step, too.
        yield_now().await;
        if let Some(verdict) = scan.step(MESSAGE_SCAN_STEP_BYTES) {
            return verdict;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Times that another task of the same worker gets on while these bytes are scanned.
    async fn turns_of_others(body: String) -> usize {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let scanned = tokio::spawn(async move { scan(body.as_bytes()).await.is_ok() });
        assert!(scanned.await.unwrap());
        other.abort();
        turns.load(Ordering::Relaxed)
    }

    fn call(arguments: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","arguments":{arguments}}}}}"#
        )
    }

    #[tokio::test]
    async fn a_large_message_lets_the_rest_of_the_worker_get_on_after_every_step() {
        let nested = format!("{}1{}", "[".repeat(50), "]".repeat(50));
        let members: Vec<String> = (0..100_000).map(|key| format!(r#""k{key}":1"#)).collect();
        for arguments in [
            format!("[{}1]", "1,".repeat(1_000_000)),
            vec![nested; 20_000].join(",").replacen('[', "[[", 1) + "]",
            format!("{{{}}}", members.join(",")),
            format!("\"{}\"", r"\n".repeat(1_000_000)),
            format!("{{\"{}\":1}}", r"\u0061".repeat(300_000)),
        ] {
            let body = call(&arguments);
            let steps = body.len() / MESSAGE_SCAN_STEP_BYTES;
            let turns = turns_of_others(body).await;
            assert!(turns >= steps, "{turns} turns, {steps} steps: {}", &arguments[..20]);
        }
    }

    #[tokio::test]
    async fn a_small_message_is_scanned_without_a_pause() {
        let body = call(&format!("[{}1]", "1,".repeat(MESSAGE_SCANNED_AT_ONCE_BYTES_MAX / 4)));
        let polled = futures_util::FutureExt::now_or_never(scan(body.as_bytes()));
        assert!(polled.unwrap().is_ok());
    }
}
