//! The access log: one line for each request. In JSON it is written straight into the log's memory, because it is written for every
//! call; in text, and where a data plane is embedded, it is an event like any other.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use ostler_core::clock::{Rfc3339, WallClock};
use ostler_core::members::push_text;

use crate::log::Lines;

/// The target of the access log, by which its level is set.
pub const TARGET: &str = "ostler::access";

/// Where lines of the access log go. The default hands them to the subscriber there is.
#[derive(Clone, Default)]
pub struct AccessLog(Option<Arc<Straight>>);

struct Straight {
    lines: Arc<Lines>,
    clock: WallClock,
}

/// What is known of a request when its answer has ended. What is not known is empty or 0.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    pub request_id: &'a str,
    pub mount: &'a str,
    pub upstream: &'a str,
    pub verb: &'a str,
    pub method: &'a str,
    pub target_name: &'a str,
    pub era: &'a str,
    pub status: u16,
    pub outcome: &'a str,
    /// Microseconds until the head of the answer.
    pub head_us: u64,
    /// Microseconds until the end of the answer.
    pub total_us: u64,
    /// Of the answer's body.
    pub bytes: u64,
    pub cut: &'a str,
    pub config_version: u64,
    pub traceparent: &'a str,
}

/// Adds members of one JSON object to a text. Names come with all that stands before the value; a serializer of whole objects
/// costs several times as much.
struct Members<'a>(&'a mut Vec<u8>);

/// What a thread keeps from line to line.
struct Draft {
    text: Vec<u8>,
    /// The second that the last line was written in, since the epoch, and a moment of it.
    second: u64,
    moment: Rfc3339,
}

thread_local! {
    static DRAFT: RefCell<Draft> = RefCell::new(Draft::default());
}

// === impl AccessLog ===

impl AccessLog {
    pub(crate) fn straight(lines: Arc<Lines>) -> Self {
        Self(Some(Arc::new(Straight { lines, clock: WallClock::system() })))
    }

    pub fn write(&self, line: &AccessLine<'_>) {
        match &self.0 {
            Some(straight) => straight.write(line),
            None => line.emit(),
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "AccessLog(straight)" } else { "AccessLog(subscriber)" })
    }
}

// === impl Straight ===

impl Straight {
    fn write(&self, line: &AccessLine<'_>) {
        let now_us = self.clock.unix_us();
        DRAFT.with_borrow_mut(|draft| {
            let timestamp = draft.moment_of(now_us);
            let text = &mut draft.text;
            text.clear();
            text.extend_from_slice(br#"{"timestamp":""#);
            text.extend_from_slice(timestamp.as_str().as_bytes());
            text.extend_from_slice(br#"","level":"INFO""#);
            line.write_members(&mut Members(text));
            text.extend_from_slice(b"}\n");
            self.lines.add(text);
        });
    }
}

// === impl Draft ===

impl Draft {
    fn moment_of(&mut self, unix_us: u64) -> Rfc3339 {
        let (second, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
        if second != self.second {
            (self.second, self.moment) = (second, Rfc3339::of_us(unix_us));
        }
        self.moment.with_micros(us)
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self { text: Vec::new(), second: 0, moment: Rfc3339::of_us(0) }
    }
}

// === impl Members ===

impl Members<'_> {
    /// A string of Ostler's own words, digits or names of resources; its opening quote is the last of `name`.
    fn word(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// A string that may hold anything.
    fn text(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        push_text(self.0, value);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.0.extend_from_slice(name.as_bytes());
        let _ = serde_json::to_writer(&mut *self.0, &value);
    }
}

// === impl AccessLine ===

impl AccessLine<'_> {
    fn write_members(&self, members: &mut Members<'_>) {
        members.word(r#","request_id":""#, self.request_id);
        members.word(r#","mount":""#, self.mount);
        members.word(r#","upstream":""#, self.upstream);
        members.word(r#","verb":""#, self.verb);
        members.text(r#","method":"#, self.method);
        members.text(r#","target_name":"#, self.target_name);
        members.word(r#","era":""#, self.era);
        members.number(r#","status":"#, u64::from(self.status));
        members.word(r#","outcome":""#, self.outcome);
        members.number(r#","head_us":"#, self.head_us);
        members.number(r#","total_us":"#, self.total_us);
        members.number(r#","bytes":"#, self.bytes);
        members.word(r#","cut":""#, self.cut);
        members.number(r#","config_version":"#, self.config_version);
        members.text(r#","traceparent":"#, self.traceparent);
        members.word(r#","target":""#, TARGET);
    }

    fn emit(&self) {
        tracing::info!(
            target: TARGET,
            request_id = self.request_id,
            mount = self.mount,
            upstream = self.upstream,
            verb = self.verb,
            method = self.method,
            target_name = self.target_name,
            era = self.era,
            status = self.status,
            outcome = self.outcome,
            head_us = self.head_us,
            total_us = self.total_us,
            bytes = self.bytes,
            cut = self.cut,
            config_version = self.config_version,
            traceparent = self.traceparent,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn line() -> AccessLine<'static> {
        AccessLine {
            request_id: "c9950ad44a55000000000006",
            mount: "files",
            upstream: "files",
            verb: "POST",
            method: "tools/call",
            target_name: "a \"quoted\" name\\ of \u{fc} \u{fffd}",
            era: "legacy",
            status: 200,
            outcome: "ok",
            head_us: 6_093,
            total_us: 6_106,
            bytes: 172,
            cut: "",
            config_version: 1,
            traceparent: "",
        }
    }

    #[test]
    fn a_line_that_is_written_straight_is_the_one_that_the_subscriber_writes() {
        let (straight, through) = (Memory::default(), Memory::default());
        let (lines, writing) = Lines::written_to(straight.clone()).unwrap();
        AccessLog::straight(lines).write(&line());
        drop(writing);
        let writer = Mutex::new(through.clone());
        let layer = tracing_subscriber::fmt::layer().with_writer(writer).json().flatten_event(true);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            AccessLog::default().write(&line());
        });
        let bare = |text: String| {
            let (begin, rest) = text.split_once("Z\"").unwrap();
            (begin.len(), rest.to_owned())
        };
        assert_eq!(bare(straight.text()), bare(through.text()));
    }
}
