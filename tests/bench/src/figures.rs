//! What the turns of a case come to: medians with their spread, and the ratio to nginx, round by round, because only what is measured
//! next to each other can be compared.

use serde::Serialize;

use crate::cases::Case;
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
}

#[derive(Debug, Serialize)]
pub(crate) struct SubjectFigures {
    pub(crate) subject: &'static str,
    pub(crate) cpu_us: Spread,
    /// Of its processor time to that of nginx in the same round.
    pub(crate) to_nginx: Option<Spread>,
    pub(crate) calls_per_second: Spread,
    pub(crate) p50_us: Spread,
    pub(crate) p90_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) p999_us: Spread,
    pub(crate) switches: Spread,
    pub(crate) resident_mib: Spread,
}

impl CaseFigures {
    pub(crate) fn of(case: &Case, turns: &[Turn]) -> Self {
        let kinds = [Kind::Direct, Kind::Nginx, Kind::Ostler];
        let subjects = kinds.iter().filter_map(|kind| SubjectFigures::of(*kind, turns)).collect();
        Self { case: case.name.clone(), about: case.about.clone(), subjects }
    }
}

impl SubjectFigures {
    fn of(kind: Kind, turns: &[Turn]) -> Option<Self> {
        let own: Vec<_> = turns.iter().filter(|turn| turn.subject == kind).collect();
        let spread =
            |figure: &dyn Fn(&Turn) -> f64| Spread::of(own.iter().map(|turn| figure(turn)).collect());
        let nginx =
            |round: usize| turns.iter().find(|turn| turn.subject == Kind::Nginx && turn.round == round);
        let ratio = |turn: &&Turn| nginx(turn.round).map(|nginx| turn.cpu_us / nginx.cpu_us);
        let is_compared = kind == Kind::Ostler;
        Some(Self {
            subject: kind.name(),
            cpu_us: spread(&|turn| turn.cpu_us)?,
            to_nginx: Spread::of(own.iter().filter_map(ratio).filter(|_| is_compared).collect()),
            calls_per_second: spread(&|turn| turn.done.calls as f64 / turn.done.seconds)?,
            p50_us: spread(&|turn| turn.done.p50_us)?,
            p90_us: spread(&|turn| turn.done.p90_us)?,
            p99_us: spread(&|turn| turn.done.p99_us)?,
            p999_us: spread(&|turn| turn.done.p999_us)?,
            switches: spread(&|turn| turn.switches)?,
            resident_mib: spread(&|turn| turn.resident_kib as f64 / 1024.0)?,
        })
    }
}

impl Spread {
    /// Of what the rounds found; nothing of nothing.
    fn of(mut found: Vec<f64>) -> Option<Self> {
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
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!((spread.median - 2.5).abs() < 1e-9 && (spread.least - 1.0).abs() < 1e-9);
        assert!(Spread::of(Vec::new()).is_none());
    }
}
