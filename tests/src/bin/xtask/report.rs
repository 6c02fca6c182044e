//! What a suite found, as a page under `docs/reports`: figures, bound, commit, machine.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::processes;

/// Things that must not be, shown one by one.
const SHOWN_MAX: usize = 10;

/// The outcome of a suite.
#[derive(Debug)]
pub(crate) struct Report {
    suite: &'static str,
    about: String,
    seed: Option<u64>,
    rows: Vec<(String, String)>,
    bounds: Vec<Bound>,
}

/// A figure and what it must be.
#[derive(Debug)]
struct Bound {
    what: String,
    found: f64,
    limit: Limit,
    unit: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Below(f64),
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    pub(crate) fn new(suite: &'static str, about: impl Into<String>) -> Self {
        Self { suite, about: about.into(), seed: None, rows: Vec::new(), bounds: Vec::new() }
    }

    pub(crate) fn seed(&mut self, seed: u64) {
        self.seed = Some(seed);
    }

    pub(crate) fn row(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.rows.push((what.into(), found.into()));
    }

    pub(crate) fn below(&mut self, what: impl Into<String>, found: f64, below: f64, unit: &'static str) {
        self.bound(what, found, Limit::Below(below), unit);
    }

    pub(crate) fn at_most(&mut self, what: impl Into<String>, found: f64, most: f64, unit: &'static str) {
        self.bound(what, found, Limit::AtMost(most), unit);
    }

    pub(crate) fn at_least(&mut self, what: impl Into<String>, found: f64, least: f64, unit: &'static str) {
        self.bound(what, found, Limit::AtLeast(least), unit);
    }

    /// Things that must not be; the first of them are shown.
    pub(crate) fn none<T: std::fmt::Display>(&mut self, what: &str, found: &[T]) {
        self.at_most(what, found.len() as f64, 0.0, "");
        for found in found.iter().take(SHOWN_MAX) {
            self.row(what, found.to_string().replace('|', "\\|"));
        }
    }

    fn bound(&mut self, what: impl Into<String>, found: f64, limit: Limit, unit: &'static str) {
        self.bounds.push(Bound { what: what.into(), found, limit, unit });
    }

    pub(crate) fn passed(&self) -> bool {
        self.bounds.iter().all(Bound::holds)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut page = format!("# {}\n\n{}\n\n", self.suite, self.about);
        let seed = self.seed.map_or_else(|| "none: nothing is drawn".to_owned(), |seed| seed.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "Commit `{}`, build {}, seed {seed}, {}.\n",
            commit(),
            ostler_core::build::VERSION,
            machine()
        );
        page.push_str("| what | found | bound | |\n|---|---|---|---|\n");
        for bound in &self.bounds {
            let verdict = if bound.holds() { "holds" } else { "**missed**" };
            let (found, unit) = (number(bound.found), bound.unit);
            let _ =
                writeln!(page, "| {} | {found} {unit} | {} {unit} | {verdict} |", bound.what, bound.limit);
        }
        for (what, found) in &self.rows {
            let _ = writeln!(page, "| {what} | {found} | | |");
        }
        let _ = writeln!(page, "\nRun it: `cargo xtask full {}`.", self.suite);
        page
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let path = reports().join(format!("{}.md", self.suite));
        std::fs::create_dir_all(reports())?;
        std::fs::write(path, self.markdown())?;
        Ok(())
    }
}

// === impl Bound ===

impl Bound {
    fn holds(&self) -> bool {
        match self.limit {
            Limit::Below(limit) => self.found < limit,
            Limit::AtMost(limit) => self.found <= limit,
            Limit::AtLeast(limit) => self.found >= limit,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, limit) = match self {
            Self::Below(limit) => ("<", limit),
            Self::AtMost(limit) => ("≤", limit),
            Self::AtLeast(limit) => ("≥", limit),
        };
        write!(f, "{sign} {limit}")
    }
}

/// Counts whole, everything else with two places.
fn number(found: f64) -> String {
    if found.fract() == 0.0 { format!("{found:.0}") } else { format!("{found:.2}") }
}

pub(super) fn reports() -> PathBuf {
    processes::root().join("docs").join("reports")
}

pub(super) fn commit() -> String {
    let output =
        Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(processes::root()).output();
    let commit =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if commit.is_empty() { "unknown".to_owned() } else { commit }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} {}, {cores} cores", std::env::consts::OS, std::env::consts::ARCH)
}
