//! What the turns of a case come to: medians with their spread, and ratios round by round, because only what is measured next to each
//! other can be compared.

use serde::Serialize;

use crate::cases::Case;
use crate::durable::{Disk, Durable};
use crate::load::Done;
use crate::subject::Kind;

/// One subject's turn in one round.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) subject: Kind,
    pub(crate) round: usize,
    /// Processor time of the subject for a call.
    pub(crate) cpu_us: f64,
    /// Context switches of the subject for a call.
    pub(crate) switches: f64,
    pub(crate) resident_kib: u64,
    pub(crate) done: Done,
}

/// A median, and the least and most of the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct CaseFigures {
    pub(crate) case: String,
    pub(crate) about: String,
    pub(crate) subjects: Vec<SubjectFigures>,
    pub(crate) beside: Vec<Beside>,
    pub(crate) durable: Option<Durable>,
    /// Peers that were to be measured and could not be, and why.
    pub(crate) left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SubjectFigures {
    pub(crate) subject: &'static str,
    pub(crate) cpu_us: Spread,
    /// Of its processor time to that of nginx in the same round.
    pub(crate) to_nginx: Option<Spread>,
    pub(crate) calls_per_second: Spread,
    pub(crate) p50_us: Spread,
    /// Over the median time of a call without anything between, in the same round.
    pub(crate) added_p50_us: Option<Spread>,
    pub(crate) p90_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) p999_us: Spread,
    pub(crate) switches: Spread,
    pub(crate) resident_mib: Spread,
}

/// The data plane's figures, divided by those of something that stands where it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    pub(crate) subject: &'static str,
    pub(crate) cpu: Spread,
    pub(crate) calls_per_second: Spread,
    /// Of what each adds to the median time of a call.
    pub(crate) added_p50: Option<Spread>,
}

impl Turn {
    pub(crate) fn calls_per_second(&self) -> f64 {
        self.done.calls as f64 / self.done.seconds
    }
}

impl CaseFigures {
    /// `kinds` in the order in which they are shown.
    pub(crate) fn of(
        case: &Case,
        kinds: &[Kind],
        turns: &[Turn],
        disk: Option<&Disk>,
        left_out: Vec<String>,
    ) -> Self {
        let subjects = kinds.iter().filter_map(|kind| SubjectFigures::of(*kind, turns)).collect();
        let beside = kinds.iter().filter_map(|kind| Beside::of(*kind, turns)).collect();
        let durable = disk.and_then(|disk| Durable::of(case, turns, disk));
        Self { case: case.name.clone(), about: case.about.clone(), subjects, beside, durable, left_out }
    }
}

impl SubjectFigures {
    fn of(kind: Kind, turns: &[Turn]) -> Option<Self> {
        let own: Vec<_> = turns.iter().filter(|turn| turn.subject == kind).collect();
        let spread =
            |figure: &dyn Fn(&Turn) -> f64| Spread::of(own.iter().map(|turn| figure(turn)).collect());
        let ratio = |turn: &&Turn| Some(turn.cpu_us / beside(turns, turn, Kind::Nginx)?.cpu_us);
        let is_compared = !matches!(kind, Kind::Direct | Kind::Nginx);
        let added = |turn: &&Turn| added_p50_us(turns, turn);
        Some(Self {
            subject: kind.name(),
            cpu_us: spread(&|turn| turn.cpu_us)?,
            to_nginx: Spread::of(own.iter().filter_map(ratio).filter(|_| is_compared).collect()),
            calls_per_second: spread(&|turn| turn.calls_per_second())?,
            p50_us: spread(&|turn| turn.done.p50_us)?,
            added_p50_us: Spread::of(own.iter().filter_map(added).collect()),
            p90_us: spread(&|turn| turn.done.p90_us)?,
            p99_us: spread(&|turn| turn.done.p99_us)?,
            p999_us: spread(&|turn| turn.done.p999_us)?,
            switches: spread(&|turn| turn.switches)?,
            resident_mib: spread(&|turn| turn.resident_kib as f64 / 1024.0)?,
        })
    }
}

impl Beside {
    /// Nothing for the data plane itself, and for no program.
    fn of(kind: Kind, turns: &[Turn]) -> Option<Self> {
        if matches!(kind, Kind::Direct | Kind::Ostler | Kind::OstlerAsync) {
            return None;
        }
        let own: Vec<_> = turns.iter().filter(|turn| turn.subject == kind).collect();
        let spread = |figure: &dyn Fn(&Turn) -> Option<f64>| {
            let ratio = |turn: &&Turn| Some(figure(beside(turns, turn, Kind::Ostler)?)? / figure(turn)?);
            Spread::of(own.iter().filter_map(ratio).collect())
        };
        Some(Self {
            subject: kind.name(),
            cpu: spread(&|turn| Some(turn.cpu_us))?,
            calls_per_second: spread(&|turn| Some(turn.calls_per_second()))?,
            added_p50: spread(&|turn| added_p50_us(turns, turn)),
        })
    }
}

/// The turn of another subject in the same round.
pub(crate) fn beside<'a>(turns: &'a [Turn], turn: &Turn, subject: Kind) -> Option<&'a Turn> {
    turns.iter().find(|other| other.subject == subject && other.round == turn.round)
}

/// Nothing for what is not between.
fn added_p50_us(turns: &[Turn], turn: &Turn) -> Option<f64> {
    let direct = beside(turns, turn, Kind::Direct).filter(|_| turn.subject != Kind::Direct)?;
    Some(turn.done.p50_us - direct.done.p50_us)
}

impl Spread {
    /// Of what the rounds found; nothing of nothing.
    pub(crate) fn of(mut found: Vec<f64>) -> Option<Self> {
        found.sort_by(f64::total_cmp);
        let (least, most) = (*found.first()?, *found.last()?);
        let upper = *found.get(found.len() / 2)?;
        let lower = *found.get((found.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::peer::Peer;

    fn turn(subject: Kind, round: usize, cpu_us: f64) -> Turn {
        let done = Done { calls: 10, seconds: 2.0, p50_us: 1.0, p90_us: 2.0, p99_us: 3.0, p999_us: 4.0 };
        Turn { subject, round, cpu_us, switches: 1.0, resident_kib: 2048, done }
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let turns = [
            turn(Kind::Nginx, 0, 10.0),
            turn(Kind::Ostler, 0, 12.0),
            turn(Kind::Ostler, 1, 60.0),
            turn(Kind::Nginx, 1, 50.0),
        ];
        let ostler = SubjectFigures::of(Kind::Ostler, &turns).unwrap();
        let ratio = ostler.to_nginx.unwrap();
        assert!((ratio.least - 1.2).abs() < 1e-9 && (ratio.most - 1.2).abs() < 1e-9, "{ratio:?}");
        assert!((ostler.calls_per_second.median - 5.0).abs() < 1e-9);
        assert!(SubjectFigures::of(Kind::Direct, &turns).is_none());
    }

    #[test]
    fn what_stands_beside_the_data_plane_is_compared_with_it_in_the_same_round() {
        let slow = |turn: Turn, p50_us| Turn { done: Done { p50_us, ..turn.done.clone() }, ..turn };
        let envoy = Kind::Peer(Peer::Envoy);
        let turns = [
            slow(turn(Kind::Direct, 0, 0.0), 40.0),
            slow(turn(Kind::Ostler, 0, 12.0), 60.0),
            slow(turn(envoy, 0, 48.0), 120.0),
            turn(Kind::Ostler, 1, 30.0),
            turn(envoy, 1, 120.0),
        ];
        let (beside, ostler) = (Beside::of(envoy, &turns).unwrap(), SubjectFigures::of(Kind::Ostler, &turns));
        assert!((beside.cpu.least - 0.25).abs() < 1e-9 && (beside.cpu.most - 0.25).abs() < 1e-9);
        assert!((beside.added_p50.unwrap().median - 0.25).abs() < 1e-9, "{beside:?}");
        assert!((ostler.unwrap().added_p50_us.unwrap().median - 20.0).abs() < 1e-9);
        assert!(Beside::of(Kind::Ostler, &turns).is_none() && Beside::of(Kind::Direct, &turns).is_none());
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!((spread.median - 2.5).abs() < 1e-9 && (spread.least - 1.0).abs() < 1e-9);
        assert!(Spread::of(Vec::new()).is_none());
    }
}
