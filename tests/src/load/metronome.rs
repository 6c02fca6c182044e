//! A thread of its own that says when each call is due, to the microsecond, because the runtime's timers go by milliseconds, which
//! is longer than a call takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

/// When the next call is due, for whoever is free.
#[derive(Debug, Clone)]
pub(super) struct Metronome(Arc<Mutex<mpsc::Receiver<Instant>>>);

// === impl Metronome ===

impl Metronome {
    /// So many beats, at `rate` a second, the first at once.
    ///
    /// # Panics
    /// When a thread cannot be had.
    pub(super) fn start(rate: f64, beats: u64) -> Self {
        // Room for all: whoever is late does not make the beat late.
        let (sender, receiver) = mpsc::channel(usize::try_from(beats.max(1)).expect("few enough to be held"));
        let started = Instant::now();
        let thread = std::thread::Builder::new().name("metronome".to_owned());
        thread.spawn(move || beat(started, rate, beats, &sender)).expect("a thread");
        Self(Arc::new(Mutex::new(receiver)))
    }

    /// Returns when a call is due, with when it was; nothing after the last.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.0.lock().await.recv().await
    }
}

#[expect(clippy::disallowed_methods, reason = "on a thread that is there for nothing else")]
fn beat(started: Instant, rate: f64, beats: u64, dues: &mpsc::Sender<Instant>) {
    for number in 0..beats {
        let due = started + Duration::from_secs_f64(number as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if dues.try_send(due).is_err() {
            return;
        }
    }
}
