//! `control backup`: the store of a running control process in a file, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use ostler_control::{BackupError, BackupSummary, verify_backup};
use ostler_core::clock::rfc3339;

use crate::client::{Client, ReachArgs};
use crate::output::{self, Outcome};

/// Write everything that a running control process keeps to a file, but for audit records of data planes, which `ostler audit export` has. Applies go on meanwhile. The file holds no token, but whatever the configs hold: keep it as private as they are.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// File to write; another backup that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    #[command(flatten)]
    pub reach: ReachArgs,
}

pub async fn backup(args: &BackupArgs, state_dir: Option<&Path>) -> anyhow::Result<Outcome> {
    let client = match state_dir {
        Some(state_dir) if args.reach.control.is_none() => Client::of_state_dir(state_dir)?,
        _ => Client::new(&args.reach)?,
    };
    refuse_to_replace(&args.to)?;
    let aside = aside(&args.to);
    let taken = take(&client, &aside).await;
    if taken.is_err() {
        // It is no backup; what cannot be removed is replaced by the next one.
        let _ = fs::remove_file(&aside);
    }
    let summary = taken?;
    fs::rename(&aside, &args.to).and_then(|()| sync_folder(&args.to)).with_context(|| {
        format!("backup {} cannot be put in place; fix the permissions of its folder", args.to.display())
    })?;
    output::print(&format!(
        "{}: {} versions of {} fleets, {} kill switches, {} records of changes, as of {}\n",
        args.to.display(),
        summary.versions,
        summary.fleets,
        summary.kill_switches,
        summary.audit_records,
        rfc3339(summary.about.unix_ms)
    ))?;
    Ok(Outcome::Done)
}

/// What is not known to be a backup may be something that somebody needs.
fn refuse_to_replace(to: &Path) -> anyhow::Result<()> {
    match verify_backup(to) {
        Ok(_) | Err(BackupError::Damaged { .. } | BackupError::Unfinished { .. }) => Ok(()),
        Err(BackupError::Unreadable { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            anyhow::bail!(
                "{} is there and is no backup that can be replaced; name another file with --to",
                to.display()
            )
        }
    }
}

async fn take(client: &Client, aside: &Path) -> anyhow::Result<BackupSummary> {
    let unwritten = || {
        format!(
            "backup {} cannot be written; free space or fix the permissions of its folder",
            aside.display()
        )
    };
    let mut sink = BufWriter::new(create_private(aside).with_context(unwritten)?);
    let received = client.download("/v1/backup", &mut sink).await;
    let file = sink.into_inner().map_err(io::IntoInnerError::into_error).with_context(unwritten)?;
    file.sync_all().with_context(unwritten)?;
    match (received, verify_backup(aside)) {
        // Control says in the stream why it breaks off.
        (_, Err(error @ BackupError::Unfinished { .. })) => Err(error.into()),
        (Err(error), _) => Err(error),
        (Ok(()), verified) => Ok(verified?),
    }
}

fn aside(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn create_private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
