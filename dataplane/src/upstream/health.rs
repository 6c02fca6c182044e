//! What is known of an upstream's health, from its own traffic first and from probes when traffic fails. Local to this
//! data plane; nothing is coordinated.
//!
//! ```text
//! pending ──answered──► ready ──failed──► degraded ──probe failed, or 5 failures──► down
//!    │                    ▲                   │                                      │
//!    └──probe failed──► down                  └───answered or probe answered─────────┴──► ready
//! ```
//!
//! What an upstream says with a status below 500 is life, but not always health: where it refuses credentials or talks nonsense,
//! the mount is degraded and routed, whatever the probe's answer.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_core::clock::WallClock;
use ostler_core::limits::{BREAKER_FAILURES, ERA_CHECK_CAP, PROBE_CAP};
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
    /// A call failed on an upstream that lives.
    Doubted(Cause),
    ProbeAnswered,
    /// A probe was answered with something that no call can be served with.
    ProbeDoubted(Cause),
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

/// How often what is known of a server's tools has become doubtful. Cheap to clone: whoever hears of a change has one.
#[derive(Debug, Clone, Default)]
pub struct Doubts(Arc<AtomicU64>);

/// The health of one upstream. Reading the state is one atomic load.
pub struct Health {
    clock: WallClock,
    state: AtomicU8,
    /// See [`Health::era`].
    era: AtomicU8,
    /// See [`Health::refuses_legacy`].
    refuses_legacy: AtomicBool,
    inner: Mutex<Inner>,
    /// Raised with every change of state.
    changed: Arc<AtomicBool>,
    /// Of what its tools say of themselves.
    pub doubts: Doubts,
}

struct Inner {
    reading: Reading,
    failures: u32,
    /// A recovery is scheduled or under way.
    probing: bool,
    /// No probe before: the upstream has asked for it.
    held_until_unix_ms: u64,
    /// When the next caller may try although probes fail.
    next_trial_unix_ms: u64,
    era_check: EraCheck,
}

/// When a doubt of the era may be looked into again: later each time that it was unfounded.
#[derive(Debug, Clone, Copy, Default)]
struct EraCheck {
    next_unix_ms: u64,
    unfounded: u32,
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
            Err(error) => Self::of_fault(error.fault),
        }
    }

    pub(super) fn of_fault(fault: Fault) -> Option<Self> {
        match fault {
            Fault::Upstream(what) => Some(Self::Failed(what)),
            Fault::Doubt(what) => Some(Self::Doubted(what)),
            Fault::Known(_) | Fault::None => None,
        }
    }
}

// === impl Doubts ===

impl Doubts {
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// One atomic load.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
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
        let inner = Inner {
            reading,
            failures: 0,
            probing: false,
            held_until_unix_ms: 0,
            next_trial_unix_ms: 0,
            era_check: EraCheck::default(),
        };
        Self {
            clock,
            state,
            era: AtomicU8::new(0),
            refuses_legacy: AtomicBool::new(false),
            inner: Mutex::new(inner),
            changed,
            doubts: Doubts::default(),
        }
    }

    /// Whether a call may be sent. While the upstream is down and nothing probes it, one call after each
    /// [`PROBE_CAP`] is let through as a trial; all others fail fast. So is one where probes are answered with 5xx: some
    /// servers answer so to nothing but a method that they do not know.
    pub fn admit(&self) -> bool {
        if self.state.load(Ordering::Relaxed) != State::Down as u8 {
            return true;
        }
        let now = self.clock.unix_ms();
        let mut inner = self.lock();
        if inner.probing {
            let trial = inner.reading.reason == Cause::Http5xx
                && inner.next_trial_unix_ms.max(inner.held_until_unix_ms) <= now;
            if trial {
                inner.next_trial_unix_ms = now.saturating_add(millis(PROBE_CAP));
            }
            return trial;
        }
        let trial = inner.reading.next_probe_unix_ms.is_none_or(|next| next <= now);
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
                if inner.reading.state == State::Down {
                    // What comes back may be another.
                    self.doubt_refusal();
                    self.doubts.raise();
                }
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
            Evidence::Doubted(_) if inner.reading.state == State::Down => {}
            // What a probe has found out says more.
            Evidence::Doubted(Cause::InvalidAnswer) if inner.reading.reason == Cause::HttpSse => {}
            Evidence::Doubted(what) => self.enter(&mut inner, State::Degraded, what),
            // Calls have been answered meanwhile, and they are what it is all for.
            Evidence::ProbeDoubted(_) | Evidence::ProbeFailed(_) if inner.reading.state == State::Ready => {}
            Evidence::ProbeDoubted(what) => {
                inner.failures = 0;
                self.enter(&mut inner, State::Degraded, what);
            }
            Evidence::ProbeFailed(what) => {
                inner.failures = inner.failures.saturating_add(1);
                self.enter(&mut inner, State::Down, what);
            }
        }
    }

    /// The era that the upstream was found to speak. One atomic load.
    pub fn era(&self) -> Option<Era> {
        match self.era.load(Ordering::Relaxed) {
            1 => Some(Era::Legacy),
            2 => Some(Era::Modern),
            _ => None,
        }
    }

    pub fn set_era(&self, era: Era) {
        let number = if era == Era::Legacy { 1 } else { 2 };
        self.era.store(number, Ordering::Relaxed);
        let mut inner = self.lock();
        if inner.reading.era.replace(era) != Some(era) {
            inner.era_check = EraCheck::default();
        }
    }

    /// Whether the upstream was found to have no handshake. One atomic load.
    pub fn refuses_legacy(&self) -> bool {
        self.refuses_legacy.load(Ordering::Relaxed)
    }

    /// It refused `initialize`, and speaks the modern era.
    pub fn refuse_legacy(&self) {
        self.refuses_legacy.store(true, Ordering::Relaxed);
    }

    /// It may have changed: the next `initialize` is its own to answer.
    pub fn doubt_refusal(&self) {
        self.refuses_legacy.store(false, Ordering::Relaxed);
    }

    /// Whether to look into a doubt of the known era now. Doubts that prove unfounded are looked into less and less.
    pub fn claim_era_check(&self) -> bool {
        let now = self.clock.unix_ms();
        let mut inner = self.lock();
        let check = &mut inner.era_check;
        if now < check.next_unix_ms {
            return false;
        }
        let wait = PROBE_CAP.saturating_mul(1 << check.unfounded).min(ERA_CHECK_CAP);
        check.next_unix_ms = now.saturating_add(millis(wait));
        check.unfounded = (check.unfounded + 1).min(16);
        true
    }

    /// No probe for so long: the upstream has asked for it.
    pub fn hold_probes(&self, wait: Duration) {
        let until = self.clock.unix_ms().saturating_add(millis(wait));
        let mut inner = self.lock();
        inner.held_until_unix_ms = inner.held_until_unix_ms.max(until);
        let held = inner.held_until_unix_ms;
        inner.reading.next_probe_unix_ms = inner.reading.next_probe_unix_ms.map(|next| next.max(held));
    }

    /// How long no probe may be sent.
    pub fn held(&self) -> Duration {
        Duration::from_millis(self.lock().held_until_unix_ms.saturating_sub(self.clock.unix_ms()))
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

    /// Ends the recovery if it is over; not so when something has failed again meanwhile.
    pub fn end_recovery(&self) -> bool {
        let mut inner = self.lock();
        let is_over = inner.reading.state == State::Ready;
        if is_over {
            inner.probing = false;
            inner.reading.next_probe_unix_ms = None;
        }
        is_over
    }

    fn enter(&self, inner: &mut Inner, state: State, reason: Cause) {
        if inner.reading.state != state {
            inner.reading.since_unix_ms = self.clock.unix_ms();
            inner.next_trial_unix_ms = inner.reading.since_unix_ms.saturating_add(millis(PROBE_CAP));
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
mod tests;
