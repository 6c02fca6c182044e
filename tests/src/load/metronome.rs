//! Calls at a rate, on time: a thread of its own says when each is due, to the microsecond, because the runtime's timers go by
//! milliseconds, which is longer than a call takes. A call's time begins when it was due, whoever was free to make it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{LoadClient, Outcome};
use super::pace::Window;

/// When the next call is due, for whoever is free.
type Dues = Arc<Mutex<mpsc::Receiver<Instant>>>;

/// Sends at `rate` calls a second for so long, over these clients; waits for the last answer.
///
/// # Panics
/// When a client does, or a thread cannot be had.
pub async fn on_time(clients: Vec<LoadClient>, rate: f64, length: Duration) -> (Vec<LoadClient>, Window) {
    let calls = (length.as_secs_f64() * rate) as usize;
    // Room for all: whoever is late does not make the beat late.
    let (sender, receiver) = mpsc::channel(calls.max(1));
    let started = Instant::now();
    let beat = std::thread::Builder::new().name("metronome".to_owned());
    beat.spawn(move || beat_out(started, rate, calls, &sender)).expect("a thread");
    let dues: Dues = Arc::new(Mutex::new(receiver));
    let mut running = JoinSet::new();
    for mut client in clients {
        let dues = Arc::clone(&dues);
        running.spawn(async move {
            let mut window = Window::default();
            loop {
                let due = dues.lock().await.recv().await;
                let Some(due) = due else { return (client, window) };
                match client.call("echo", &json!({"x": 1})).await {
                    Outcome::Result(_) => window.latencies.push(due.elapsed()),
                    other => window.errors.push(format!("{other:?}")),
                }
            }
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

#[expect(clippy::disallowed_methods, reason = "on a thread that is there for nothing else")]
fn beat_out(started: Instant, rate: f64, calls: usize, dues: &mpsc::Sender<Instant>) {
    for number in 0..calls {
        let due = started + Duration::from_secs_f64(number as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if dues.try_send(due).is_err() {
            return;
        }
    }
}
