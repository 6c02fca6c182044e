//! What a call costs: builds the data plane as it is published, and `ostler-bench`, and lets that measure.

use std::path::PathBuf;
use std::process::Command;

use super::{processes, report};

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Only cases whose names begin like this; may be given several times.
    #[arg(long = "case", value_name = "PREFIX")]
    cases: Vec<String>,
    /// Turns of each subject.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a turn, in seconds.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Profile of the data plane's build; what is published is built with `dist`, which takes several minutes.
    #[arg(long, default_value = "dist")]
    profile: String,
    /// A folder of other programs to measure beside it; `tests/bench/README.md` says which.
    #[arg(long, env = "OSTLER_BENCH_PEERS", value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// Only print; leave docs/reports as it is. So does a run of only some cases.
    #[arg(long)]
    no_report: bool,
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<bool> {
    for (package, profile) in [("ostler-dataplane", &*bench.profile), ("ostler-bench", "release")] {
        let build = ["build", "--package", package, "--profile", profile];
        let status = Command::new(processes::cargo()).args(build).current_dir(processes::root()).status()?;
        anyhow::ensure!(status.success(), "{package} cannot be built with the profile {profile}");
    }
    let mut command = Command::new(processes::release("ostler-bench"));
    command
        .arg("run")
        .arg("--dataplane")
        .arg(processes::target().join(&bench.profile).join("ostler-dataplane"));
    command.args(["--rounds", &bench.rounds.to_string(), "--seconds", &bench.seconds.to_string()]);
    command.args(["--about", &format!("Commit `{}`, profile `{}`. ", report::commit(), bench.profile)]);
    command.arg("--json").arg(processes::target().join("bench.json"));
    for case in &bench.cases {
        command.args(["--case", case]);
    }
    if let Some(folder) = &bench.peers {
        command.arg("--peers").arg(folder);
    }
    // A part of the cases is no report.
    if bench.cases.is_empty() && !bench.no_report {
        command.arg("--page").arg(report::reports().join("bench.md"));
    }
    Ok(command.status()?.success())
}
