//! Turns: each case's subjects are started once and measured one after the other, in every round in another order, so that what else
//! happens on the machine happens to all of them.

use std::process::Command;

use anyhow::Context as _;

use crate::Plan;
use crate::cases::{self, Case};
use crate::durable::Disk;
use crate::figures::{CaseFigures, Turn};
use crate::load::{COUNTING, Done, Order};
use crate::page;
use crate::process::{Running, raise_open_files};
use crate::subject::peer::Peers;
use crate::subject::{Kind, Programs, Subject};

/// Measures what is planned, and writes it where that says.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    anyhow::ensure!(
        plan.dataplane.is_file(),
        "{} is no program; build it, or name another with --dataplane",
        plan.dataplane.display()
    );
    raise_open_files()?;
    let chosen: Vec<Case> = cases::all().into_iter().filter(|case| plan.wants(case)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no case begins like this; `cases` lists them");
    let peers = plan.peers.as_deref().map(Peers::find).unwrap_or_default();
    if plan.peers.is_some() && !peers.missing().is_empty() {
        eprintln!("not measured, because they are not there: {}", peers.missing().join(", "));
    }
    let programs = Programs { dataplane: plan.dataplane.clone(), peers };
    let mut figures = Vec::with_capacity(chosen.len());
    let mut failed = Vec::new();
    for case in chosen {
        match measure(plan, &programs, &case) {
            Ok(found) => {
                eprint!("{}", page::rows(&found));
                found.left_out.iter().for_each(|line| eprintln!("left out of {}: {line}", case.name));
                figures.push(found);
            }
            Err(error) => {
                eprintln!("{} was not measured: {error:#}", case.name);
                failed.push(case.name);
            }
        }
    }
    if let Some(file) = &plan.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)?)?;
    }
    let text = page::whole(plan, &figures);
    match &plan.page {
        Some(file) => std::fs::write(file, text)?,
        None => println!("{text}"),
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn measure(plan: &Plan, programs: &Programs, case: &Case) -> anyhow::Result<CaseFigures> {
    let folder = tempfile::tempdir()?;
    let mut upstream = Running::talking(Command::new(std::env::current_exe()?).arg("upstream"))?;
    let upstream = (upstream.line()?.parse()?, upstream);
    let kinds = Kind::of(case, &programs.peers);
    let (mut subjects, mut left_out) = (Vec::new(), Vec::new());
    for kind in &kinds {
        let folder = folder.path().join(kind.name());
        match Subject::start(*kind, case, upstream.0, programs, &folder) {
            Ok(subject) => subjects.push(subject),
            Err(error) => excuse(*kind, error, &mut left_out)?,
        }
    }
    let mut turns: Vec<Turn> = Vec::with_capacity(plan.rounds * subjects.len());
    let mut disk = Disk::of(case, folder.path())?;
    for round in 0..plan.rounds {
        disk.as_mut().map_or(Ok(()), Disk::ask)?;
        let mut lost = Vec::new();
        for subject in &subjects {
            match turn(subject, &subject.order(case, plan.seconds), round) {
                Ok(turn) => turns.push(turn),
                Err(error) => {
                    excuse(subject.kind, error, &mut left_out)?;
                    lost.push(subject.kind);
                }
            }
        }
        // One that does not serve throughout is measured not at all.
        turns.retain(|turn| !lost.contains(&turn.subject));
        subjects.retain(|subject| !lost.contains(&subject.kind));
        subjects.rotate_left(1);
    }
    Ok(CaseFigures::of(case, &kinds, &turns, disk.as_ref(), left_out))
}

/// A peer that does not serve is left out; nothing else may be.
fn excuse(kind: Kind, error: anyhow::Error, left_out: &mut Vec<String>) -> anyhow::Result<()> {
    let Kind::Peer(_) = kind else { return Err(error.context(kind.name())) };
    left_out.push(format!("{}: {error:#}", kind.name()));
    Ok(())
}

fn turn(subject: &Subject, order: &Order, round: usize) -> anyhow::Result<Turn> {
    let mut load = Running::talking(Command::new(std::env::current_exe()?).args(order.arguments()))?;
    anyhow::ensure!(load.line()? == COUNTING, "the load did not begin");
    let before = subject.usage()?;
    let line = load.line()?;
    let after = subject.usage()?;
    let done: Done = serde_json::from_str(&line).with_context(|| format!("the load said: {line}"))?;
    anyhow::ensure!(done.calls > 0, "no call was answered");
    let calls = done.calls as f64;
    Ok(Turn {
        subject: subject.kind,
        round,
        cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / calls,
        switches: after.switches.saturating_sub(before.switches) as f64 / calls,
        resident_kib: after.resident_kib,
        done,
    })
}

impl Plan {
    fn wants(&self, case: &Case) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|prefix| case.name.starts_with(prefix))
    }
}

impl Order {
    /// The arguments of a process that makes this load.
    fn arguments(&self) -> Vec<String> {
        let era = clap::ValueEnum::to_possible_value(&self.era);
        let era = era.map(|era| era.get_name().to_owned()).unwrap_or_default();
        let mut arguments = vec!["load".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        add("to", self.to.to_string());
        add("path", self.path.clone());
        add("era", era);
        add("tool", self.tool.clone());
        add("argument-bytes", self.argument_bytes.to_string());
        add("connections", self.connections.to_string());
        add("seconds", self.seconds.to_string());
        if let Some(rate) = self.rate {
            add("rate", rate.to_string());
        }
        if let Some(authorization) = &self.authorization {
            add("authorization", authorization.clone());
        }
        arguments
    }
}
