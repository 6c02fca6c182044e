//! `ostler validate`: judges a file by the same function as control and the data planes, without either.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use ostler_config::{Diagnostic, judge_text, render};
use ostler_core::limits::CONFIG_BYTES_MAX;
use serde::Serialize;

use crate::cli::Format;
use crate::output::{self, Outcome};

/// Judge a config file, with no process running: every mistake with its place and remedy.
///
/// References such as ${TOKEN} are resolved on the data planes, and are not looked at here.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Config file, YAML or JSON; - for standard input
    pub file: PathBuf,

    /// How the answer looks
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    diagnostics: &'a [Diagnostic],
}

/// Text of a config, and what people call it.
pub struct Document {
    pub name: String,
    pub text: Vec<u8>,
}

/// # Errors
/// When the file cannot be read.
pub fn run(args: &ValidateArgs) -> anyhow::Result<Outcome> {
    let document = Document::read(&args.file)?;
    let judged = judge_text(&document.text);
    let verdict = match &judged {
        Ok(judged) => Verdict {
            valid: true,
            digest: Some(judged.config.digest().to_hex()),
            diagnostics: &judged.warnings,
        },
        Err(report) => Verdict { valid: false, digest: None, diagnostics: &report.diagnostics },
    };
    match (args.output, &judged) {
        (Format::Json, _) => output::print(&format!("{}\n", serde_json::to_string_pretty(&verdict)?))?,
        (Format::Table, Err(report)) => output::print(&render::plain(report, &document.name))?,
        (Format::Table, Ok(judged)) => {
            let findings = render::findings(&judged.warnings, &document.name);
            let mut counts = vec![
                output::count(judged.config.upstreams().len(), "upstream"),
                output::count(judged.config.mounts().len(), "mount"),
            ];
            if !judged.warnings.is_empty() {
                counts.push(output::count(judged.warnings.len(), "warning"));
            }
            output::print(&format!("{findings}{}: valid, {}\n", document.name, counts.join(", ")))?;
        }
    }
    Ok(if verdict.valid { Outcome::Done } else { Outcome::Refused })
}

impl Document {
    /// Reads at most one byte more than a config may have, so that the judge can say that it is too large.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let limit = CONFIG_BYTES_MAX as u64 + 1;
        let mut text = Vec::new();
        if path == Path::new("-") {
            io::stdin().lock().take(limit).read_to_end(&mut text).context("standard input cannot be read")?;
            return Ok(Self { name: "standard input".to_owned(), text });
        }
        let name = path.display().to_string();
        let file = std::fs::File::open(path).and_then(|file| {
            // A folder opens like a file and fails late, with another error on each system.
            if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
        });
        file.and_then(|file| file.take(limit).read_to_end(&mut text)).map_err(|error| {
            anyhow::anyhow!(
                "config file {name} cannot be read: {}; check its path and permissions",
                reason(&error)
            )
        })?;
        Ok(Self { name, text })
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}
