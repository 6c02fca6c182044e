//! When the data plane is killed: drawn from the seed.

use std::time::{Duration, Instant};

use ostler_core::rng::Jitter;

/// A kind of moment, with how long after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// After control has answered an apply.
    AfterApply(Duration),
    /// After control has heard `applied`.
    AfterApplied(Duration),
    /// While the config settles.
    InsideSettle(Duration),
    /// Around the end of the settle time, when the generation is written.
    AroundWrite(Duration),
    /// After the process was started: before, during and after it reads its disk.
    DuringStart(Duration),
    /// As the first, and once more while it starts again.
    Twice(Duration, Duration),
    /// Again and again while the newest generation settles, until it is left out.
    CrashLoop,
    /// The same until all generations are left out.
    CrashLoopAll,
}

/// Draws moments. Each kind comes up before one comes up again.
#[derive(Debug)]
pub(super) struct Deck {
    jitter: Jitter,
    settle: Duration,
    kinds: Vec<u8>,
    dealt: usize,
}

/// How often each kind is in a deck.
const KINDS: [u8; 16] = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 6];
const CRASH_LOOP: u8 = 6;
/// The costly one comes with every third deck.
const DECKS_PER_CRASH_LOOP_ALL: usize = 3;

impl Deck {
    pub(super) fn new(seed: u64, settle: Duration) -> Self {
        Self { jitter: Jitter::from_seed(seed), settle, kinds: Vec::new(), dealt: 0 }
    }

    pub(super) fn draw(&mut self) -> Moment {
        if self.kinds.is_empty() {
            self.kinds = KINDS.to_vec();
            self.dealt += 1;
        }
        let index = self.up_to(self.kinds.len() as u64 - 1) as usize;
        let kind = self.kinds.swap_remove(index);
        match kind {
            0 => Moment::AfterApply(self.micros(8_000)),
            1 => Moment::AfterApplied(self.micros(2_000)),
            2 => Moment::InsideSettle(self.micros(self.settle.as_micros() as u64)),
            3 => {
                let around = Duration::from_millis(15);
                Moment::AroundWrite(self.settle.saturating_sub(around) + self.micros(40_000))
            }
            4 => Moment::DuringStart(self.micros(120_000)),
            5 => Moment::Twice(self.micros(8_000), self.micros(60_000)),
            CRASH_LOOP if self.dealt % DECKS_PER_CRASH_LOOP_ALL == 1 && !self.kinds.contains(&CRASH_LOOP) => {
                Moment::CrashLoopAll
            }
            _ => Moment::CrashLoop,
        }
    }

    /// A time between two applies: some follow each other before they settle, some do not.
    pub(super) fn pause(&mut self) -> Duration {
        self.micros(2 * self.settle.as_micros() as u64)
    }

    fn micros(&mut self, max: u64) -> Duration {
        Duration::from_micros(self.up_to(max))
    }

    fn up_to(&mut self, max: u64) -> u64 {
        self.jitter.below(max + 1)
    }
}

impl Moment {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::AfterApply(_) => "after an apply",
            Self::AfterApplied(_) => "right after `applied`",
            Self::InsideSettle(_) => "inside the settle time",
            Self::AroundWrite(_) => "around the write of the generation",
            Self::DuringStart(_) => "during start and restore",
            Self::Twice(..) => "twice in quick succession",
            Self::CrashLoop => "until the newest generation is left out",
            Self::CrashLoopAll => "until all generations are left out",
        }
    }
}

/// Waits for so long, to the microsecond where the timer's grain would be too coarse.
pub(super) async fn wait(duration: Duration) {
    let started = Instant::now();
    let grain = Duration::from_millis(3);
    if duration > grain {
        tokio::time::sleep(duration - grain).await;
    }
    while started.elapsed() < duration {
        std::hint::spin_loop();
    }
}
