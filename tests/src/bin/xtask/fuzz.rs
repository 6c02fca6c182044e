//! Fuzzing with coverage: libFuzzer around the targets of `tests/fuzz`, built with the stable toolchain and a C++ compiler.
//!
//! Only the workspace's own crates are instrumented (`tests/fuzz/rustc-with-coverage`); all others are those of any
//! release build. A run reads the kept corpus and writes what it finds to `target/fuzz`; only `merge` changes what is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::Subcommand;
use ostler_fuzz::{TARGETS, Target, corpus, targets};

use super::processes;
use super::report::Report;

#[derive(Debug, Subcommand)]
pub(crate) enum Fuzz {
    /// Build the fuzzer.
    Build,
    /// Run one target, or all of them one after the other.
    Run {
        /// A target's name, or `all`.
        target: String,
        /// How long each target runs.
        #[arg(default_value_t = FULL_SECONDS)]
        seconds: u32,
        /// Stop after this many inputs instead: the same ones whenever seed, corpus and build are the same.
        #[arg(long, conflicts_with = "seconds")]
        inputs: Option<u32>,
        #[arg(long, default_value_t = SEED)]
        seed: u32,
    },
    /// Keep the smallest set of inputs that covers what the kept ones and the last runs' covered.
    Merge {
        /// A target's name, or `all`.
        target: String,
    },
}

/// Where a run of one target ends.
#[derive(Clone, Copy, Debug)]
enum Until {
    Seconds(u32),
    Inputs(u32),
}

/// What a run of one target came to.
#[derive(Debug)]
struct Outcome {
    target: &'static Target,
    executions: u64,
    per_second: u64,
    edges: u64,
    /// Where the offending input is.
    finding: Option<PathBuf>,
}

const SEED: u32 = 20_261_121;
/// Each target runs this long without a finding.
const FULL_SECONDS: u32 = 60;
/// One input may take this long before it is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
/// What the process may hold before it is a finding.
const RESIDENT_MB_MAX: u32 = 1_024;

pub(crate) fn run(task: &Fuzz) -> anyhow::Result<bool> {
    let binary = build()?;
    match task {
        Fuzz::Build => Ok(true),
        Fuzz::Run { target, seconds, inputs, seed } => {
            let until = inputs.map_or(Until::Seconds(*seconds), Until::Inputs);
            let mut clean = true;
            for target in chosen(target)? {
                let outcome = run_target(&binary, target, until, *seed)?;
                println!("{:12} {}", target.name, outcome.sentence());
                clean &= outcome.finding.is_none();
            }
            Ok(clean)
        }
        Fuzz::Merge { target } => {
            chosen(target)?.into_iter().try_for_each(|target| merge(&binary, target))?;
            Ok(true)
        }
    }
}

/// The suite at full size.
pub(crate) fn full() -> anyhow::Result<Report> {
    let binary = build()?;
    let mut report = Report::new(
        "fuzz",
        format!(
            "Every target of `tests/fuzz` under libFuzzer for {FULL_SECONDS} s, one after the other, starting from the kept \
             corpus: release build with debug assertions and overflow checks, Ostler's own crates instrumented for coverage. \
             A finding is a property that does not hold, a panic, an input that takes more than {INPUT_SECONDS_MAX} s, or more \
             than {RESIDENT_MB_MAX} MB held."
        ),
    );
    report.seed(SEED.into());
    let mut findings = 0;
    for target in TARGETS {
        let outcome = run_target(&binary, target, Until::Seconds(FULL_SECONDS), SEED)?;
        findings += u32::from(outcome.finding.is_some());
        report.row(format!("`{}`", target.name), outcome.sentence());
    }
    report.below("findings", f64::from(findings), 1.0, "");
    Ok(report)
}

fn build() -> anyhow::Result<PathBuf> {
    let status = Command::new(processes::cargo())
        .args(["build", "--release", "--package", "ostler-fuzz", "--features", "libfuzzer"])
        .env("RUSTC_WORKSPACE_WRAPPER", processes::root().join("tests/fuzz/rustc-with-coverage"))
        .current_dir(processes::root())
        .status()?;
    anyhow::ensure!(status.success(), "the fuzzer cannot be built; it needs a C++ compiler");
    Ok(processes::target().join("release").join("ostler-fuzz"))
}

fn chosen(name: &str) -> anyhow::Result<Vec<&'static Target>> {
    if name == "all" {
        return Ok(TARGETS.iter().collect());
    }
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let target = targets::find(name).with_context(|| format!("there is no target {name}: {}", names()))?;
    Ok(vec![target])
}

fn run_target(binary: &Path, target: &'static Target, until: Until, seed: u32) -> anyhow::Result<Outcome> {
    let (found, findings) = (work_folder(target.name)?, work_folder("findings")?);
    let prefix = findings.join(format!("{}-", target.name));
    let output = fuzzer(binary, target)
        .arg(&found)
        .arg(corpus::folder(target.name))
        .arg(format!("-seed={seed}"))
        .arg(until.argument())
        .arg(format!("-artifact_prefix={}", prefix.display()))
        .arg("-print_final_stats=1")
        .output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{log}");
    }
    let finding = log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path));
    anyhow::ensure!(output.status.success() || finding.is_some(), "{} did not run", target.name);
    let stat = |name: &str| {
        let value = log.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    Ok(Outcome {
        target,
        executions: stat("number_of_executed_units"),
        per_second: stat("average_exec_per_sec"),
        edges: log.lines().filter_map(edges).next_back().unwrap_or(0),
        finding: finding.map(PathBuf::from),
    })
}

/// Of a line such as `#1024 REDUCE cov: 512 ft: 900 …`.
fn edges(line: &str) -> Option<u64> {
    line.split_once(" cov: ")?.1.split(' ').next()?.parse().ok()
}

fn merge(binary: &Path, target: &'static Target) -> anyhow::Result<()> {
    let (kept, found) = (corpus::folder(target.name), work_folder(target.name)?);
    let merged = work_folder("merged")?.join(target.name);
    if merged.exists() {
        fs::remove_dir_all(&merged)?;
    }
    fs::create_dir(&merged)?;
    let by_hand = |name: &str| name.starts_with("seed-") || name.starts_with("finding-");
    for (name, input) in corpus::inputs(target.name) {
        if by_hand(&name) {
            fs::write(merged.join(name), input)?;
        }
    }
    let status = fuzzer(binary, target).arg("-set_cover_merge=1").args([&merged, &kept, &found]).status()?;
    anyhow::ensure!(status.success(), "{} cannot be merged", target.name);
    fs::remove_dir_all(&kept)?;
    fs::create_dir(&kept)?;
    for entry in fs::read_dir(&merged)? {
        let entry = entry?;
        fs::copy(entry.path(), kept.join(entry.file_name()))?;
    }
    println!("{}: {} inputs", target.name, corpus::inputs(target.name).len());
    Ok(())
}

fn fuzzer(binary: &Path, target: &Target) -> Command {
    let mut command = Command::new(binary);
    command
        .env("OSTLER_FUZZ_TARGET", target.name)
        .arg(format!("-max_len={}", target.input_bytes_max))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={RESIDENT_MB_MAX}"))
        .stdin(Stdio::null());
    command
}

fn work_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = processes::target().join("fuzz").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

// === impl Until ===

impl Until {
    /// In libFuzzer's words.
    fn argument(self) -> String {
        match self {
            Self::Seconds(seconds) => format!("-max_total_time={seconds}"),
            Self::Inputs(inputs) => format!("-runs={inputs}"),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn sentence(&self) -> String {
        let Self { executions, per_second, edges, .. } = self;
        let inputs = corpus::inputs(self.target.name).len();
        let found = match &self.finding {
            None => "no finding".to_owned(),
            Some(path) => format!("**a finding**: `{}`", path.display()),
        };
        format!("{executions} inputs ({per_second}/s) from {inputs} kept, {edges} edges covered, {found}")
    }
}
