//! What a call allocates is what the file says, exactly. `OSTLER_BLESS=1` writes what was found.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use ostler_budget::case;
use ostler_budget::figures::{self, Allocated, Budget};

/// Bytes depend on how many digits a log line has.
const BYTES_TOLERANCE_PERCENT: f64 = 1.0;

/// In processes of their own, since a process has one log.
fn found() -> BTreeMap<String, Allocated> {
    let mut found = BTreeMap::new();
    for is_logged in [true, false] {
        let cases =
            case::ALL.into_iter().filter(|case| case.is_logged == is_logged && case.allocates_alike());
        let output = Command::new(env!("CARGO_BIN_EXE_allocations"))
            .args(cases.map(|case| case.name))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "the cases ended with {}", output.status);
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let mut words = line.split(' ');
            let case = words.next().unwrap().to_owned();
            let mut number = || words.next().unwrap().parse().unwrap();
            found.insert(case, Allocated { count: number(), bytes: number() });
        }
    }
    found
}

#[test]
fn a_call_allocates_what_the_budget_says() {
    let (found, mut budget) = (found(), Budget::load().unwrap());
    if std::env::var_os("OSTLER_BLESS").is_some() {
        budget.allocated_with = figures::rustc();
        budget.allocations = found;
        return budget.store().unwrap();
    }
    if budget.allocated_with != figures::rustc() {
        eprintln!("NOT COMPARED: counted with {}, here is {}", budget.allocated_with, figures::rustc());
        return;
    }
    let kept = |case: &str| budget.allocations.get(case);
    let counts =
        figures::compare(found.iter().map(|(case, it)| (case, it.count)), |case| Some(kept(case)?.count));
    let bytes =
        figures::compare(found.iter().map(|(case, it)| (case, it.bytes)), |case| Some(kept(case)?.bytes));
    let others: Vec<_> = counts
        .iter()
        .filter(|it| !it.is_within(0.0))
        .map(|it| ("allocations", it))
        .chain(bytes.iter().filter(|it| !it.is_within(BYTES_TOLERANCE_PERCENT)).map(|it| ("bytes", it)))
        .collect();
    assert!(
        others.is_empty(),
        "a call allocates otherwise than {} says: {others:#?}\nIf it should, renew the file with OSTLER_BLESS=1.",
        Budget::path().display()
    );
    assert_eq!(found.len(), budget.allocations.len(), "cases that are gone are still in the file");
}
