//! How often each config was tried without living through its settle time: `attempts.json`, and the rules on it.
//!
//! A mark is set before a candidate is judged and taken back when it is refused, settles, is replaced by another, or the
//! process ends cleanly. What is left is a crash.

use std::collections::{BTreeMap, BTreeSet};

use ostler_core::limits::ATTEMPT_MARKS_MAX;
use serde::{Deserialize, Serialize};

/// The counts, by the config's digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    configs: BTreeMap<String, Mark>,
    trial: Option<Trial>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Starts that reached neither the end of the settle time nor a clean exit.
    unfinished: u32,
    once_healthy: bool,
    /// Grows from mark to mark: the oldest are forgotten first.
    #[serde(default)]
    order: u64,
}

/// The config whose attempt is under way in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trial {
    config: String,
    /// Whose attempt was under way before, until this one is known not to be refused.
    displaced: Option<String>,
}

/// What stands in the file. Format 1 was the map alone.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    configs: BTreeMap<String, Mark>,
}

/// Why the file's counts are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Illegible {
    Damaged,
    Later { format: u32 },
}

const FORMAT: u32 = 2;
/// A config that was never healthy is not tried again after this many unfinished starts.
const UNFINISHED_MAX_NEW: u32 = 1;
/// One that was healthy before gets the benefit of the doubt.
const UNFINISHED_MAX_PROVEN: u32 = 3;

// === impl Attempts ===

impl Attempts {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Illegible> {
        #[derive(Deserialize)]
        struct Peek {
            format: Option<u32>,
        }
        let peek: Peek = serde_json::from_slice(bytes).map_err(|_| Illegible::Damaged)?;
        let configs = match peek.format {
            None => serde_json::from_slice(bytes),
            Some(FORMAT) => serde_json::from_slice(bytes).map(|stored: Stored| stored.configs),
            Some(format) => return Err(Illegible::Later { format }),
        };
        Ok(Self { configs: configs.map_err(|_| Illegible::Damaged)?, trial: None })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = Stored { format: FORMAT, configs: self.configs.clone() };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// A config is about to be tried. The attempt of one that was still settling ends: it is replaced, and did not crash.
    pub(super) fn begin(&mut self, config: &str) {
        let displaced = self.trial.take().map(|trial| trial.config);
        if let Some(displaced) = &displaced {
            self.take_back(displaced);
        }
        self.add(config);
        self.trial = Some(Trial { config: config.to_owned(), displaced });
    }

    /// The config that was about to be tried is refused. What was tried before it goes on.
    pub(super) fn withdraw(&mut self, config: &str) {
        let Some(trial) = self.trial.take_if(|trial| trial.config == config) else { return };
        self.take_back(config);
        if let Some(displaced) = trial.displaced {
            self.add(&displaced);
            self.trial = Some(Trial { config: displaced, displaced: None });
        }
    }

    /// A config has lived through its settle time.
    pub(super) fn settled(&mut self, config: &str) {
        self.end_trial_of(config);
        let mark = self.configs.entry(config.to_owned()).or_default();
        (mark.unfinished, mark.once_healthy) = (0, true);
    }

    /// The same, and it is not called healthy for a reason that is not its own.
    pub(super) fn outlived(&mut self, config: &str) {
        self.end_trial_of(config);
        self.forgive(config);
    }

    /// What lies on disk as a generation was healthy, whatever became of the file of counts.
    pub(super) fn proven(&mut self, config: &str) {
        self.configs.entry(config.to_owned()).or_default().once_healthy = true;
    }

    /// The process ends in order: that is no crash of what it tried. False when nothing changed.
    pub(super) fn end(&mut self) -> bool {
        let Some(trial) = self.trial.take() else { return false };
        self.forgive(&trial.config);
        true
    }

    /// Forgets the oldest beyond the limit, but none of those that are on disk.
    pub(super) fn forget_beyond_limit(&mut self, on_disk: &BTreeSet<String>) {
        self.configs
            .retain(|config, mark| !mark.once_healthy || mark.unfinished > 0 || on_disk.contains(config));
        while self.configs.len() > ATTEMPT_MARKS_MAX {
            let others = self.configs.iter().filter(|(config, _)| !on_disk.contains(*config));
            let Some(oldest) = others.min_by_key(|(_, mark)| mark.order).map(|(config, _)| config.clone())
            else {
                return;
            };
            self.configs.remove(&oldest);
        }
    }

    pub(super) fn unfinished(&self, config: &str) -> u32 {
        self.configs.get(config).map_or(0, |mark| mark.unfinished)
    }

    /// Whether this config was tried too often without proving healthy. What is under way in this process has not crashed.
    pub(super) fn is_skipped(&self, config: &str) -> bool {
        let under_way = u32::from(self.trial.as_ref().is_some_and(|trial| trial.config == config));
        self.configs.get(config).is_some_and(|mark| {
            let max = if mark.once_healthy { UNFINISHED_MAX_PROVEN } else { UNFINISHED_MAX_NEW };
            mark.unfinished.saturating_sub(under_way) >= max
        })
    }

    /// The config is tried no more, nor would its attempt come back should the candidate under way be refused.
    fn end_trial_of(&mut self, config: &str) {
        self.trial.take_if(|trial| trial.config == config);
        if let Some(trial) = &mut self.trial {
            trial.displaced.take_if(|displaced| displaced == config);
        }
    }

    fn forgive(&mut self, config: &str) {
        if let Some(mark) = self.configs.get_mut(config) {
            mark.unfinished = 0;
        }
        self.drop_empty();
    }

    fn add(&mut self, config: &str) {
        let newest = self.configs.values().map(|mark| mark.order).max().unwrap_or_default();
        let mark = self.configs.entry(config.to_owned()).or_default();
        mark.unfinished = mark.unfinished.saturating_add(1);
        mark.order = newest.saturating_add(1);
    }

    fn take_back(&mut self, config: &str) {
        if let Some(mark) = self.configs.get_mut(config) {
            mark.unfinished = mark.unfinished.saturating_sub(1);
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.configs.retain(|_, mark| mark.once_healthy || mark.unfinished > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the next process would skip it, if this one ended now without a word.
    fn skipped_next_time(attempts: &Attempts, config: &str) -> bool {
        Attempts::parse(&attempts.encode()).unwrap().is_skipped(config)
    }

    #[test]
    fn a_new_config_gets_one_unfinished_start_and_a_proven_one_three() {
        let mut attempts = Attempts::default();
        attempts.begin("new");
        assert!(skipped_next_time(&attempts, "new"));
        attempts.settled("new");
        for starts in 1..=3 {
            assert!(!attempts.is_skipped("new"), "after {} unfinished starts", starts - 1);
            attempts = Attempts::parse(&attempts.encode()).unwrap();
            attempts.begin("new");
        }
        assert!(skipped_next_time(&attempts, "new"));
        assert_eq!(attempts.unfinished("new"), 3);
    }

    #[test]
    fn a_config_that_is_replaced_while_it_settles_did_not_crash() {
        let mut attempts = Attempts::default();
        attempts.begin("a");
        attempts.begin("b");
        assert!(!skipped_next_time(&attempts, "a") && skipped_next_time(&attempts, "b"));
        attempts.begin("a");
        assert!(skipped_next_time(&attempts, "a") && !skipped_next_time(&attempts, "b"));
    }

    #[test]
    fn a_refused_candidate_leaves_no_mark_and_takes_none_from_what_settles() {
        let mut attempts = Attempts::default();
        attempts.begin("a");
        attempts.begin("refused");
        attempts.withdraw("refused");
        assert!(skipped_next_time(&attempts, "a") && !skipped_next_time(&attempts, "refused"));
        attempts.begin("refused too");
        attempts.settled("a");
        attempts.withdraw("refused too");
        assert!(!attempts.is_skipped("a"));
        assert_eq!(attempts.configs.len(), 1);
    }

    #[test]
    fn a_clean_exit_forgives_what_was_tried_and_not_what_crashed_before() {
        let mut attempts = Attempts::default();
        attempts.begin("crashed");
        let mut attempts = Attempts::parse(&attempts.encode()).unwrap();
        attempts.begin("served");
        assert!(attempts.end() && !attempts.end());
        assert!(attempts.is_skipped("crashed") && !attempts.is_skipped("served"));
    }

    #[test]
    fn the_oldest_marks_are_forgotten_first_and_those_on_disk_never() {
        let mut attempts = Attempts::default();
        attempts.settled("on disk");
        for number in 0..=ATTEMPT_MARKS_MAX {
            attempts.begin(&format!("{number:03}"));
            attempts.trial = None;
        }
        attempts.forget_beyond_limit(&BTreeSet::from(["on disk".to_owned()]));
        assert_eq!(attempts.configs.len(), ATTEMPT_MARKS_MAX);
        assert!(attempts.configs.contains_key("on disk"));
        assert!(!attempts.is_skipped("000") && attempts.is_skipped(&format!("{ATTEMPT_MARKS_MAX:03}")));
    }

    #[test]
    fn damage_and_later_formats_are_told_apart() {
        assert_eq!(Attempts::parse(b"{\"form"), Err(Illegible::Damaged));
        assert_eq!(Attempts::parse(b"{\"format\":9,\"more\":1}"), Err(Illegible::Later { format: 9 }));
        assert_eq!(Attempts::parse(b"{}"), Ok(Attempts::default()));
    }
}
