//! What `up` serves: a file, the demo server in place of a file that names nothing yet, or what the fleet has, which is
//! the demo server as long as nobody has applied anything.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ostler_config::{Code, Report, Validated, judge_text, render};
use ostler_watch::{FileWatch, Reload};

use crate::output;
use crate::validate::Document;

/// First line of the config that `up` applies by itself. By it a later `up` knows that nobody else made this version, and
/// may renew the path of the binary in it.
const DEMO_MARK: &str = "# Written by `ostler up`: the built-in demo server, until a config is applied.";

/// Where the config comes from.
#[derive(Debug)]
pub enum Content {
    /// Control follows this file.
    File(PathBuf),
    /// The file names no upstream. The demo stands in, and the file is watched until it names one.
    StandIn(StandIn),
    /// Whatever the fleet has.
    Fleet,
}

/// A file that has nothing to serve yet.
#[derive(Debug)]
pub struct StandIn {
    pub path: PathBuf,
    watch: FileWatch,
    reload: Reload,
}

impl Content {
    /// Judges the file, if there is one. `None` when it was refused and every finding is printed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find(file: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let Some(path) = file else { return Ok(Some(Self::Fleet)) };
        let document = Document::read(path)?;
        let path = path.to_owned();
        let judged = match judge_text(&document.text) {
            Ok(judged) => judged,
            Err(report) => {
                output::complain(&render::plain(&report, &document.name));
                return Ok(None);
            }
        };
        // That there is no upstream is told in other words.
        let warnings: Vec<_> =
            judged.warnings.into_iter().filter(|warning| !warning.is(Code::NoUpstream)).collect();
        output::complain(&render::findings(&warnings, &document.name));
        Ok(Some(if judged.config.upstreams().is_empty() {
            let reload = Reload::default();
            let watch = FileWatch::new(&path, Some(&document.text)).reloaded_by(&reload);
            Self::StandIn(StandIn { path, watch, reload })
        } else {
            Self::File(path)
        }))
    }

    /// The file that control follows from the start.
    pub fn followed(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::StandIn(_) | Self::Fleet => None,
        }
    }

    /// Reads a file anew that control does not follow yet.
    pub fn reload(&self) {
        if let Self::StandIn(stand_in) = self {
            stand_in.reload.ask();
        }
    }

    /// Returns when the file has become one that control can follow; never when there is nothing to wait for.
    pub async fn named_an_upstream(&mut self) -> PathBuf {
        match self {
            Self::StandIn(stand_in) => {
                stand_in.named_an_upstream().await;
                stand_in.path.clone()
            }
            Self::File(_) | Self::Fleet => std::future::pending().await,
        }
    }
}

impl StandIn {
    async fn named_an_upstream(&mut self) {
        let name = self.path.display().to_string();
        loop {
            match self.watch.changed().await.map(|text| judge_text(&text)) {
                Ok(Ok(judged)) if judged.config.upstreams().is_empty() => {}
                Ok(Ok(_)) => return,
                Ok(Err(report)) => complain_of(&report, &name),
                Err(error) => {
                    output::complain(&format!("{name} cannot be read: {error}; the demo server stays\n"))
                }
            }
        }
    }
}

fn complain_of(report: &Report, name: &str) {
    output::complain(&format!("{}the demo server stays\n", render::plain(report, name)));
}

/// A config whose one upstream is this binary's demo server.
///
/// # Errors
/// When the binary's path cannot stand in a config.
pub fn demo_config() -> anyhow::Result<String> {
    let binary = std::env::current_exe().context("the path of the running binary is unknown")?;
    let text = binary.to_str().map(demo_config_of).filter(|text| judge_text(text.as_bytes()).is_ok());
    text.with_context(|| {
        format!("the demo server cannot be served from {}: a config cannot hold this path; move the binary, or name a file with --config", binary.display())
    })
}

fn demo_config_of(binary: &str) -> String {
    // A JSON string is a YAML string.
    let command = serde_json::Value::from(binary);
    format!(
        "{DEMO_MARK}\nversion: 1\nupstreams:\n  demo:\n    stdio: {{ command: {command}, args: [demo-server] }}\n"
    )
}

/// Whether this text is a demo config, of this build's binary or of another.
pub fn is_demo_config(text: &[u8]) -> bool {
    text.starts_with(DEMO_MARK.as_bytes())
}

/// The paths on the agent's port: those of all mounts, and the bare one if a mount owns it.
pub fn mounts_of(config: &Validated) -> Vec<String> {
    config.mounts().keys().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use ostler_config::UpstreamTransport;

    use super::*;

    #[test]
    fn the_demo_config_is_accepted_wherever_the_binary_lies() {
        for binary in ["/usr/bin/ostler", "/home/a b/$HOME/\"q\"/ostler: #1", r"C:\Users\ü\ostler.exe"] {
            let text = demo_config_of(binary);
            let judged = judge_text(text.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(judged.warnings, []);
            assert_eq!(mounts_of(&judged.config), ["demo"]);
            let demo = judged.config.upstreams().values().next().unwrap();
            let UpstreamTransport::Stdio(stdio) = &demo.transport else { panic!() };
            assert_eq!(stdio.command, binary);
            assert!(is_demo_config(text.as_bytes()));
        }
        assert!(!is_demo_config(b"version: 1\n"));
    }

    #[test]
    fn a_file_that_names_nothing_has_the_demo_stand_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ostler.yaml");
        std::fs::write(&path, "version: 1\n").unwrap();
        assert!(matches!(Content::find(Some(&path)).unwrap(), Some(Content::StandIn(_))));
        std::fs::write(&path, "version: 1\nupstreams: { a: { http: { url: http://127.0.0.1:1/ } } }\n")
            .unwrap();
        assert_eq!(Content::find(Some(&path)).unwrap().unwrap().followed(), Some(path.as_path()));
        std::fs::write(&path, "version: 2\n").unwrap();
        assert!(Content::find(Some(&path)).unwrap().is_none());
    }
}
