//! The file of the budget, and what is found compared with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::callgrind;

/// What a call costs, by case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Where instructions were counted: elsewhere others are found.
    pub counted_with: Tools,
    pub instructions: BTreeMap<String, u64>,
    /// What allocations were counted with.
    pub allocated_with: String,
    pub allocations: BTreeMap<String, Allocated>,
}

/// What decides how many instructions there are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    pub rustc: String,
    pub profile: String,
    pub libc: String,
    pub valgrind: String,
    /// Libraries choose their loops by it.
    pub cpu: String,
}

/// How often memory was asked for, and for how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocated {
    pub count: u64,
    pub bytes: u64,
}

/// A figure beside the one that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    pub case: String,
    pub found: u64,
    /// Nothing for a case that the file does not have.
    pub kept: Option<u64>,
}

/// By how much instructions may differ, in percent.
pub const TOLERANCE_PERCENT: f64 = 2.0;
/// The same where another thread gathers what calls leave it, by the clock.
pub const GATHERED_TOLERANCE_PERCENT: f64 = 8.0;
/// So many instructions may always differ: 2 % of the smallest stage are twelve, and eight were seen there from run to run, sixteen in
/// another.
pub const TOLERANCE_LEAST: u64 = 20;

// === impl Budget ===

impl Budget {
    #[must_use]
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.json")
    }

    /// An empty one where there is no file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load() -> anyhow::Result<Self> {
        let path = Self::path();
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// # Errors
    /// When it cannot be written.
    pub fn store(&self) -> anyhow::Result<()> {
        let path = Self::path();
        fs::write(&path, format!("{}\n", serde_json::to_string_pretty(self)?))
            .with_context(|| path.display().to_string())
    }
}

/// Each figure that was found beside the one that is kept.
pub fn compare<'a>(
    found: impl IntoIterator<Item = (&'a String, u64)>,
    kept: impl Fn(&str) -> Option<u64>,
) -> Vec<Compared> {
    let compared = |(case, found): (&String, u64)| Compared { case: case.clone(), found, kept: kept(case) };
    found.into_iter().map(compared).collect()
}

// === impl Compared ===

impl Compared {
    /// By how much it is more than what is kept.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        let kept = self.kept.filter(|kept| *kept > 0)?;
        Some(100.0 * (float(self.found) / float(kept) - 1.0))
    }

    #[must_use]
    pub fn is_within(&self, percent: f64) -> bool {
        self.kept.is_some_and(|kept| {
            let differ = self.found.abs_diff(kept);
            differ <= TOLERANCE_LEAST || 100.0 * float(differ) <= percent * float(kept)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

// === impl Tools ===

impl Tools {
    /// Those of this machine.
    ///
    /// # Errors
    /// When there is no valgrind.
    pub fn here() -> anyhow::Result<Self> {
        Ok(Self {
            rustc: rustc(),
            profile: "release".to_owned(),
            libc: said(Command::new("getconf").arg("GNU_LIBC_VERSION")).unwrap_or_default(),
            valgrind: callgrind::version().context("there is no valgrind")?,
            cpu: cpu(),
        })
    }
}

/// Compiler and target.
#[must_use]
pub fn rustc() -> String {
    let name = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = said(Command::new(name).arg("--version")).unwrap_or_default();
    format!("{version}, {}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let has = |flag: &&str| flags.split_whitespace().any(|it| it == *flag);
    // What valgrind lets a program see, and loops are chosen by.
    ["avx2", "erms", "bmi2"].into_iter().filter(has).collect::<Vec<_>>().join(" ")
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_within_when_it_is_neither_dearer_nor_cheaper_by_more_than_that() {
        let beside =
            |kept| move |found| Compared { case: String::new(), found, kept: Some(kept) }.is_within(2.0);
        let found = [9_799, 9_800, 10_000, 10_200, 10_201];
        assert_eq!(found.map(beside(10_000)), [false, true, true, true, false]);
        assert_eq!(
            [79, 80, 100, 120, 121].map(beside(100)),
            [false, true, true, true, false],
            "a small stage"
        );
        assert!(
            !Compared { case: String::new(), found: 0, kept: None }.is_within(2.0),
            "a new case is kept first"
        );
    }
}
