//! What is known of an upstream's health, from its own traffic first and from probes when traffic fails. Local to this
//! data plane; nothing is coordinated.
//!
//! ```text
//! pending ──answered──► ready ──failed──► degraded ──probe failed, or 5 failures──► down
//!    │                    ▲                   │                                      │
//!    └──probe failed──► down                  └───answered or probe answered─────────┴──► ready
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_core::clock::WallClock;
use ostler_core::limits::{BREAKER_FAILURES, PROBE_CAP};
use ostler_mcp::Era;
use serde::Serialize;

use super::{Answer, Cause, Fault, Unheard, UpstreamError};

/// State of an upstream, and of the mounts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not yet contacted.
    Pending,
    Ready,
    /// Failing now and then, or just begun to fail; still routed.
    Degraded,
    /// Calls fail fast with a typed error and when to retry.
    Down,
    /// Removed from config; finishing what is in flight.
    Draining,
    /// Switched off.
    Disabled,
}

/// Something that tells of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A call got an answer.
    Answered,
    /// A call failed through the upstream's fault.
    Failed(Cause),
    ProbeAnswered,
    ProbeFailed(Cause),
}

/// A reading for people and gauges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub state: State,
    /// Why the state is what it is.
    pub reason: Cause,
    pub since_unix_ms: u64,
    pub next_probe_unix_ms: Option<u64>,
    pub era: Option<Era>,
}

/// The health of one upstream. Reading the state is one atomic load.
pub struct Health {
    clock: WallClock,
    state: AtomicU8,
    inner: Mutex<Inner>,
    /// Raised with every change of state.
    changed: Arc<AtomicBool>,
}

struct Inner {
    reading: Reading,
    failures: u32,
    /// A recovery is scheduled or under way.
    probing: bool,
}

// === impl State ===

impl State {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Ready, Self::Degraded, Self::Down, Self::Draining, Self::Disabled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Evidence ===

impl Evidence {
    /// What the end of a call tells, if it tells anything.
    pub(super) fn of(outcome: &Result<Answer, UpstreamError>) -> Option<Self> {
        match outcome {
            Ok(answer) if answer.extensions().get::<Unheard>().is_some() => None,
            Ok(_) => Some(Self::Answered),
            Err(error) => match error.fault {
                Fault::Upstream(what) => Some(Self::Failed(what)),
                Fault::Known(_) | Fault::None => None,
            },
        }
    }
}

// === impl Health ===

impl Health {
    pub fn new(clock: WallClock, changed: Arc<AtomicBool>) -> Self {
        let since_unix_ms = clock.unix_ms();
        let reading = Reading {
            state: State::Pending,
            reason: Cause::NotContacted,
            since_unix_ms,
            next_probe_unix_ms: None,
            era: None,
        };
        let state = AtomicU8::new(State::Pending as u8);
        Self { clock, state, inner: Mutex::new(Inner { reading, failures: 0, probing: false }), changed }
    }

    /// Whether a call may be sent. While the upstream is down and nothing probes it, one call after each
    /// [`PROBE_CAP`] is let through as a trial; all others fail fast.
    pub fn admit(&self) -> bool {
        if self.state.load(Ordering::Relaxed) != State::Down as u8 {
            return true;
        }
        let now = self.clock.unix_ms();
        let mut inner = self.lock();
        let due = inner.reading.next_probe_unix_ms.is_none_or(|next| next <= now);
        let trial = !inner.probing && due;
        if trial {
            inner.reading.next_probe_unix_ms = Some(now.saturating_add(millis(PROBE_CAP)));
        }
        trial
    }

    /// A call that may have been let through as a trial has told nothing: the next one may be a trial at once.
    pub fn give_back_trial(&self) {
        if self.is_down() {
            let mut inner = self.lock();
            if !inner.probing {
                inner.reading.next_probe_unix_ms = Some(self.clock.unix_ms());
            }
        }
    }

    /// Whether calls fail fast.
    pub fn is_down(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::Down as u8
    }

    pub fn reading(&self) -> Reading {
        self.lock().reading.clone()
    }

    /// How long until the next probe may bring it back; at least a moment.
    pub fn retry_after(&self) -> Duration {
        let next = self.lock().reading.next_probe_unix_ms.unwrap_or_default();
        Duration::from_millis(next.saturating_sub(self.clock.unix_ms()).max(100))
    }

    /// How long calls are refused from now; nothing while the upstream is not down.
    pub fn refuses_for(&self) -> Duration {
        if !self.is_down() {
            return Duration::ZERO;
        }
        let next = self.lock().reading.next_probe_unix_ms.unwrap_or_default();
        Duration::from_millis(next.saturating_sub(self.clock.unix_ms()))
    }

    pub fn record(&self, evidence: Evidence) {
        if evidence == Evidence::Answered && self.state.load(Ordering::Relaxed) == State::Ready as u8 {
            // A failure since the last answer has left `Ready`, so there is nothing to reset.
            return;
        }
        let mut inner = self.lock();
        match evidence {
            Evidence::Answered | Evidence::ProbeAnswered => {
                inner.failures = 0;
                let reason =
                    if evidence == Evidence::Answered { Cause::Answered } else { Cause::ProbeAnswered };
                self.enter(&mut inner, State::Ready, reason);
                inner.reading.next_probe_unix_ms = None;
            }
            Evidence::Failed(what) => {
                inner.failures = inner.failures.saturating_add(1);
                let down = inner.reading.state == State::Down || inner.failures >= BREAKER_FAILURES;
                self.enter(&mut inner, if down { State::Down } else { State::Degraded }, what);
                if down && !inner.probing {
                    inner.reading.next_probe_unix_ms =
                        Some(self.clock.unix_ms().saturating_add(millis(PROBE_CAP)));
                }
            }
            Evidence::ProbeFailed(what) => {
                inner.failures = inner.failures.saturating_add(1);
                self.enter(&mut inner, State::Down, what);
            }
        }
    }

    pub fn set_era(&self, era: Era) {
        self.lock().reading.era = Some(era);
    }

    /// Announces the next probe, for people and for `retry_after_ms`.
    pub fn schedule(&self, after: Duration) {
        self.lock().reading.next_probe_unix_ms = Some(self.clock.unix_ms().saturating_add(millis(after)));
    }

    /// Claims the recovery of this upstream; false when somebody already works on it or there is nothing to recover.
    pub fn claim_recovery(&self) -> bool {
        let mut inner = self.lock();
        let needed = inner.reading.state != State::Ready && !inner.probing;
        inner.probing |= needed;
        needed
    }

    pub fn end_recovery(&self) {
        let mut inner = self.lock();
        inner.probing = false;
        inner.reading.next_probe_unix_ms = None;
    }

    fn enter(&self, inner: &mut Inner, state: State, reason: Cause) {
        if inner.reading.state != state {
            inner.reading.since_unix_ms = self.clock.unix_ms();
            self.changed.store(true, Ordering::Relaxed);
        }
        inner.reading.state = state;
        inner.reading.reason = reason;
        self.state.store(state as u8, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reading().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(clock: &WallClock) -> Health {
        Health::new(clock.clone(), Arc::default())
    }

    #[test]
    fn one_failure_degrades_and_a_failed_probe_takes_it_down() {
        let health = health(&WallClock::manual(1));
        assert_eq!(health.reading().state, State::Pending);
        health.record(Evidence::Answered);
        health.record(Evidence::Failed(Cause::Refused));
        assert_eq!((health.reading().state, health.reading().reason), (State::Degraded, Cause::Refused));
        assert!(!health.is_down());
        health.record(Evidence::ProbeFailed(Cause::Refused));
        assert!(health.is_down());
        health.record(Evidence::ProbeAnswered);
        assert_eq!(health.reading().state, State::Ready);
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_an_answer_between_them_does_not() {
        let health = health(&WallClock::manual(1));
        for _ in 1..BREAKER_FAILURES {
            health.record(Evidence::Failed(Cause::Http5xx));
        }
        health.record(Evidence::Answered);
        health.record(Evidence::Failed(Cause::Http5xx));
        assert_eq!(health.reading().state, State::Degraded);
        for _ in 1..BREAKER_FAILURES {
            health.record(Evidence::Failed(Cause::Http5xx));
        }
        assert!(health.is_down());
    }

    #[test]
    fn without_a_prober_one_trial_is_let_through_at_a_time() {
        let clock = WallClock::manual(1);
        let health = health(&clock);
        for _ in 0..BREAKER_FAILURES {
            assert!(health.admit());
            health.record(Evidence::Failed(Cause::SpawnFailed));
        }
        assert!(!health.admit());
        clock.advance(millis(PROBE_CAP));
        assert!(health.admit());
        assert!(!health.admit());
        health.give_back_trial();
        assert!(health.admit(), "it told nothing");
        assert!(!health.admit());
        health.record(Evidence::Answered);
        assert!(health.admit() && health.admit());
    }

    #[test]
    fn recovery_is_claimed_once() {
        let health = health(&WallClock::manual(1));
        health.record(Evidence::Failed(Cause::Refused));
        assert!(health.claim_recovery());
        assert!(!health.claim_recovery());
        health.end_recovery();
        assert!(health.claim_recovery());
        health.end_recovery();
        health.record(Evidence::ProbeAnswered);
        assert!(!health.claim_recovery());
    }

    #[test]
    fn the_time_of_a_state_is_when_it_was_entered() {
        let clock = WallClock::manual(10);
        let health = health(&clock);
        health.record(Evidence::ProbeFailed(Cause::Refused));
        clock.advance(5);
        health.record(Evidence::ProbeFailed(Cause::ProbeTimeout));
        assert_eq!((health.reading().since_unix_ms, health.reading().reason), (10, Cause::ProbeTimeout));
    }
}
