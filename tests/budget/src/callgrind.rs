//! Cases under valgrind's callgrind: instructions of a call, of all threads of the process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::case::Case;
use crate::drive;

/// Calls that count, of a whole path; what a timer does meanwhile is divided by it.
const CALLS: usize = 1_000;
/// Where [`crate::drive`] wants counts to be cut.
const MARK: &str = "ostler_budget::drive::mark*";
const PARTS: &str = "callgrind.out";
/// Large copies as loops: callgrind counts an instruction for each byte of one that the processor repeats by itself.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

/// Whether it can be used here.
#[must_use]
pub fn version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Instructions of a call of each of the cases, which this program goes through in processes of its own: one with the access log,
/// one without.
///
/// # Errors
/// When a case cannot be run, or is not found in what callgrind writes.
pub fn instructions(cases: &[Case]) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for is_logged in [true, false] {
        let cases: Vec<_> = cases.iter().filter(|case| case.is_logged == is_logged).collect();
        if !cases.is_empty() {
            found.extend(of_a_process(&cases)?);
        }
    }
    Ok(found)
}

fn of_a_process(cases: &[&Case]) -> anyhow::Result<Vec<(String, u64)>> {
    let folder = tempfile::tempdir()?;
    let (errors, report) = (folder.path().join("stderr"), folder.path().join("valgrind.log"));
    let mut command = Command::new("valgrind");
    command.env("GLIBC_TUNABLES", TUNABLES);
    command.args(["--tool=callgrind", "--fair-sched=yes"]).arg(format!("--dump-before={MARK}"));
    command.arg(format!("--callgrind-out-file={}", folder.path().join(PARTS).display()));
    command.arg(format!("--log-file={}", report.display())).arg(std::env::current_exe()?);
    command.args(["drive", "--calls", &CALLS.to_string()]).args(cases.iter().map(|case| case.name));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors)?).status();
    let status = status.context("valgrind cannot be started")?;
    let said = || {
        let texts = [&errors, &report].map(|file| fs::read_to_string(file).unwrap_or_default());
        texts
            .concat()
            .lines()
            .rev()
            .take(20)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
    };
    anyhow::ensure!(status.success(), "the cases ended with {status} under valgrind: {}", said());
    // Before the first mark, between the first and the second of a case, between two cases, and so on.
    let part = |index: usize| total(&folder.path().join(format!("{PARTS}.{}", 2 * index + 2)));
    let a_call = |(index, case): (usize, &&Case)| {
        let calls = u64::try_from(drive::calls_of(case, CALLS))?;
        Ok((case.name.to_owned(), part(index)? / calls))
    };
    cases.iter().enumerate().map(a_call).collect()
}

/// Instructions that a part counts.
fn total(part: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(part)
        .context("callgrind has not cut its counts at the marks; is the program stripped?")?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    count.with_context(|| format!("there is no sum in {}", part.display()))
}
