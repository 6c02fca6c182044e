//! What an operator does to a store while its control process is stopped: check, restore, new epoch. Each takes the
//! store's lock, says in full what it did, and touches nothing when it cannot do all of it.

use std::path::PathBuf;

use ostler_core::clock::{WallClock, rfc3339};
use ostler_core::limits::VERSIONS_KEPT_MAX;
use ostler_core::state_dir::StateDir;

use crate::args::{RestoreArgs, StoreCommand};
use crate::distribution::Hub;
use crate::run::{runtime, whole};
use crate::state::{STORE_FILE, open_store, read_epoch_floor, write_epoch};
use crate::store::{RestoreOptions, check_file, restore};

/// Runs a command to its end. Blocks.
///
/// # Errors
/// One sentence that names the object and the next step.
pub fn run_on_store(command: &StoreCommand, state_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let state_dir = StateDir::open(state_dir.unwrap_or_else(|| StateDir::default_for("control")))?;
    match command {
        StoreCommand::NewEpoch => new_epoch(&state_dir),
        StoreCommand::Restore(args) => restore_backup(&state_dir, args),
        StoreCommand::Check => check(&state_dir),
    }
}

fn new_epoch(state_dir: &StateDir) -> anyhow::Result<()> {
    let (epoch, fleets) = runtime()?.block_on(async {
        let store = open_store(state_dir, WallClock::system(), VERSIONS_KEPT_MAX, true, &Hub::default())
            .await
            .map_err(whole)?;
        let minted = store.new_epoch().await;
        let heads = store.heads().await;
        store.close().await;
        anyhow::Ok((minted.map_err(whole)?, heads.map_err(whole)?.sound.len()))
    })?;
    write_epoch(state_dir, epoch)?;
    println!(
        "epoch {epoch} begins; {fleets} fleets have their config as a new version of it. Start control again."
    );
    Ok(())
}

fn restore_backup(state_dir: &StateDir, args: &RestoreArgs) -> anyhow::Result<()> {
    let options = RestoreOptions {
        path: state_dir.path(STORE_FILE),
        backup: args.from.clone(),
        replace: args.replace,
        clock: WallClock::system(),
        // One that is damaged must not keep the store from coming back.
        epoch_floor: read_epoch_floor(state_dir).unwrap_or(0),
    };
    let restored = restore(&options).map_err(whole)?;
    write_epoch(state_dir, restored.epoch)?;
    let backup = restored.backup;
    println!(
        "restored {} versions of {} fleets from the backup of {}; epoch {} begins, in which each fleet has its config as a new version",
        backup.versions,
        backup.fleets,
        rfc3339(backup.about.unix_ms),
        restored.epoch
    );
    if backup.kill_switches > 0 {
        println!(
            "{} kill switches are on again, also what was resumed after the backup; what was stopped after it is not among them. See `ostler kills`.",
            backup.kill_switches
        );
    }
    if let Some(kept) = restored.kept {
        println!("the store that was there is kept as {}", kept.display());
    }
    println!(
        "Start control again. Data planes take what it holds, also in place of versions that came after the backup."
    );
    Ok(())
}

fn check(state_dir: &StateDir) -> anyhow::Result<()> {
    let path = state_dir.path(STORE_FILE);
    let report = check_file(&path).map_err(whole)?;
    println!(
        "{}: format {}, epoch {}, {} fleets, {} versions, {} kill switches, {} records of changes",
        path.display(),
        report.format,
        report.epoch,
        report.heads.len(),
        report.versions,
        report.kill_switches,
        report.audit_records
    );
    for finding in &report.findings {
        println!("  {finding}");
    }
    anyhow::ensure!(
        report.findings.is_empty(),
        "store {} is not whole: {} findings; restore a backup with `ostler control restore --from FILE --replace`",
        path.display(),
        report.findings.len()
    );
    println!("the store is whole");
    Ok(())
}
