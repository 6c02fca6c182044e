//! A child's stderr into the log: line by line, cut, made harmless, without the secrets that the child was given, and no more of it
//! than leaves room for others.
//!
//! It is read to its end, so that a child never blocks on it for good, but at a pace: reading is work on the worker that
//! other mounts share.

use ostler_config::SecretString;
use ostler_core::limits::{
    CHILD_STDERR_BYTES_BURST_MAX, CHILD_STDERR_BYTES_PER_SECOND, CHILD_STDERR_LINE_BYTES_MAX,
    CHILD_STDERR_LINE_BYTES_MIN, CHILD_STDERR_LINES_BURST_MAX, CHILD_STDERR_LINES_PER_SECOND,
};
use ostler_core::lines::Lines;
use ostler_core::pace::Pace;
use tokio::process::ChildStderr;
use tokio::task::coop::consume_budget;

use super::host::{Host, Peer};

/// What stands in place of a secret.
const MASK: &str = "[redacted]";

/// Runs until the end of the stream.
pub(super) async fn log(stderr: ChildStderr, host: &Host) {
    let bytes = || Pace::per_second(CHILD_STDERR_BYTES_PER_SECOND, CHILD_STDERR_BYTES_BURST_MAX);
    let mut lines = Lines::new(stderr, CHILD_STDERR_LINE_BYTES_MAX).paced(bytes());
    let mut short_lines = bytes();
    let mut logged = Pace::per_second(CHILD_STDERR_LINES_PER_SECOND, CHILD_STDERR_LINES_BURST_MAX);
    let mut left_out = 0_u64;
    while let Ok(Some(line)) = lines.next_cut().await {
        host.counts.stderr_lines.increment();
        if logged.take().is_ok() {
            say_left_out(host, &mut left_out);
            say(host, &line);
        } else {
            left_out += 1;
            host.counts.stderr_lines_dropped.increment();
        }
        short_lines.keep(CHILD_STDERR_LINE_BYTES_MIN).await;
        consume_budget().await;
    }
    say_left_out(host, &mut left_out);
}

fn say(host: &Host, line: &[u8]) {
    let line = match &host.peer {
        Peer::Child(transport) => without(&transport.secrets, &String::from_utf8_lossy(line)),
        Peer::Stream(_) => String::from_utf8_lossy(line).into_owned(),
    };
    // Control characters would let a child write on the operator's terminal.
    let line: String = line
        .chars()
        .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    tracing::info!(target: "upstream_stderr", upstream = %host.name, line);
}

/// The line without what its process was given to keep.
fn without(secrets: &[SecretString], line: &str) -> String {
    secrets.iter().fold(line.to_owned(), |line, secret| match line.contains(secret.expose()) {
        true => line.replace(secret.expose(), MASK),
        false => line,
    })
}

fn say_left_out(host: &Host, left_out: &mut u64) {
    if *left_out > 0 {
        tracing::warn!(target: "upstream_stderr", upstream = %host.name, lines = *left_out, "lines of stderr were left out, there were too many");
        *left_out = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_the_secrets_wherever_they_stand_in_it() {
        let secrets = ["canary-and-more", "canary-a"].map(|text| SecretString::new(text.to_owned()));
        let line = without(&secrets, "a=canary-and-more b=canary-a canary-and-morecanary-ab");
        assert_eq!(line, "a=[redacted] b=[redacted] [redacted][redacted]b");
        assert_eq!(without(&[], "canary-a"), "canary-a");
    }
}
