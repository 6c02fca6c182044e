//! What durable audit should reach: it depends on the disk, which is asked in the same rounds, and on what the same data plane does
//! where nothing waits for that disk.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cases::{Case, Shape};
use crate::figures::{Spread, Turn, beside};
use crate::subject::Kind;

/// A file on the disk that has the state folders, to which groups of records are added.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    /// Medians, by the round.
    found: Vec<Duration>,
}

/// How durable audit stands against what it should reach.
#[derive(Debug, Serialize)]
pub(crate) struct Durable {
    pub(crate) calls_per_second: Spread,
    pub(crate) async_calls_per_second: Spread,
    pub(crate) fdatasync_us: Spread,
    /// The lower of the two that bound it.
    pub(crate) attainable: Spread,
    /// Of the same round's.
    pub(crate) part: Spread,
    pub(crate) is_met: bool,
}

/// Of what is attainable.
const PART: f64 = 0.8;
/// A caller waits for the sync that is under way, and for its own: one and a half, on average.
const SYNCS_A_CALL: f64 = 1.5;
/// Some thirty records.
const GROUP: [u8; 16 * 1024] = [b'x'; 16 * 1024];
const SYNCS: usize = 200;

// === impl Disk ===

impl Disk {
    /// For a case in which something waits for it. The folder is that of the subjects.
    pub(crate) fn of(case: &Case, folder: &Path) -> anyhow::Result<Option<Self>> {
        let is_waited_for = case.shape == Shape::AuditDurable;
        let file = is_waited_for.then(|| File::create(folder.join("synced"))).transpose()?;
        Ok(file.map(|file| Self { file, found: Vec::new() }))
    }

    /// Asks it while nobody else does.
    pub(crate) fn ask(&mut self) -> anyhow::Result<()> {
        let mut took = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            self.file.write_all(&GROUP)?;
            let began = Instant::now();
            self.file.sync_data()?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        self.found.extend(took.get(SYNCS / 2));
        Ok(())
    }
}

// === impl Durable ===

impl Durable {
    pub(crate) fn of(case: &Case, turns: &[Turn], disk: &Disk) -> Option<Self> {
        let own = turns.iter().filter(|turn| turn.subject == Kind::Ostler);
        let rounds: Vec<Round> = own.filter_map(|turn| Round::of(case, turns, turn, disk)).collect();
        let spread = |figure: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(figure).collect());
        let part = spread(&|round| round.durable / round.attainable())?;
        Some(Self {
            calls_per_second: spread(&|round| round.durable)?,
            async_calls_per_second: spread(&|round| round.asynchronous)?,
            fdatasync_us: spread(&|round| round.fdatasync.as_secs_f64() * 1e6)?,
            attainable: spread(&Round::attainable)?,
            part,
            is_met: part.median >= PART,
        })
    }
}

/// Calls a second, and what the disk took, in one round.
#[derive(Debug)]
struct Round {
    connections: f64,
    durable: f64,
    asynchronous: f64,
    fdatasync: Duration,
}

impl Round {
    fn of(case: &Case, turns: &[Turn], durable: &Turn, disk: &Disk) -> Option<Self> {
        let asynchronous = beside(turns, durable, Kind::OstlerAsync)?.calls_per_second();
        let (durable, fdatasync) = (durable.calls_per_second(), *disk.found.get(durable.round)?);
        Some(Self { connections: f64::from(case.connections), durable, asynchronous, fdatasync })
    }

    fn attainable(&self) -> f64 {
        self.asynchronous.min(self.connections / (SYNCS_A_CALL * self.fdatasync.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::load::Done;

    fn turn(subject: Kind, round: usize, calls: u64) -> Turn {
        let done = Done { calls, seconds: 1.0, p50_us: 1.0, p90_us: 2.0, p99_us: 3.0, p999_us: 4.0 };
        Turn { subject, round, cpu_us: 1.0, switches: 1.0, resident_kib: 1, done }
    }

    fn judged(fdatasync_us: u64, durable: u64) -> Durable {
        let case = cases::all().into_iter().find(|case| case.name == "audit-durable-64").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::of(&case, folder.path()).unwrap().unwrap();
        disk.found = vec![Duration::from_micros(fdatasync_us); 2];
        let turns = [
            turn(Kind::OstlerAsync, 0, 20_000),
            turn(Kind::Ostler, 0, durable),
            turn(Kind::Ostler, 1, durable),
            turn(Kind::OstlerAsync, 1, 20_000),
        ];
        Durable::of(&case, &turns, &disk).unwrap()
    }

    #[test]
    fn the_lower_of_disk_and_async_is_what_is_attainable() {
        // 64 callers, one and a half syncs of 4 ms each: 10 667 a second.
        let slow = judged(4_000, 8_600);
        assert!((slow.attainable.median - 64.0 / 0.006).abs() < 1e-6 && slow.is_met, "{slow:?}");
        assert!(!judged(4_000, 8_500).is_met);
        let fast = judged(100, 15_999);
        assert!((fast.attainable.median - 20_000.0).abs() < 1e-6 && !fast.is_met, "{fast:?}");
        assert!(judged(100, 16_000).is_met);
    }

    #[test]
    fn a_disk_is_asked_once_a_round_and_only_where_somebody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let asked = |case: &Case| Disk::of(case, folder.path()).unwrap();
        let mut disks: Vec<_> = cases::all().iter().filter_map(asked).collect();
        assert_eq!(disks.len(), 2);
        disks[0].ask().unwrap();
        assert!(matches!(disks[0].found[..], [median] if !median.is_zero()));
    }
}
