//! Everything that is measured, by name.

use ostler_telemetry::access::AccessLog;

use crate::messages::Era;
use crate::path::{Path, With};
use crate::stage::Stage;
use crate::{path, stage};

/// One thing that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    pub subject: Subject,
    /// Whether the access log is written.
    pub is_logged: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Subject {
    Path(Path),
    Stage(Stage),
}

/// A case whose world runs.
pub enum Running {
    Path(Box<path::Caller>),
    Stage(Box<stage::Ready>),
}

/// In the order in which they are measured.
pub const ALL: [Case; 13] = [
    path("bare", "an HTTP server and a client of hyper, and nothing else", Path::Bare),
    path("call", "a small call of the legacy era, with metrics, access log and no rules", LEGACY),
    Case {
        name: "call-unlogged",
        about: "the same without the access log",
        subject: Subject::Path(LEGACY),
        is_logged: false,
    },
    path("call-modern", "a small call of the modern era", dataplane(Era::Modern, Era::Modern, With::Nothing)),
    path(
        "call-rules",
        "five rules, one with an expression",
        dataplane(Era::Legacy, Era::Legacy, With::Rules),
    ),
    path(
        "call-audit",
        "decision and end written down, nothing waits",
        dataplane(Era::Legacy, Era::Legacy, With::Audit),
    ),
    path(
        "bridge-to-legacy",
        "a modern client, a legacy upstream",
        dataplane(Era::Modern, Era::Legacy, With::Nothing),
    ),
    path(
        "bridge-to-modern",
        "a legacy client, a modern upstream",
        dataplane(Era::Legacy, Era::Modern, With::Nothing),
    ),
    stage(
        "stage-envelope",
        "the message is scanned, its era told, its headers compared with it",
        Stage::Envelope,
    ),
    stage("stage-session", "the session that the call names is found", Stage::Session),
    stage("stage-door", "host judged, mount found, a place taken, the call counted", Stage::Door),
    stage("stage-gate", "the gate is asked where there are no rules", Stage::Gate(With::Nothing)),
    stage(
        "stage-gate-rules",
        "the gate is asked, with five rules, one with an expression",
        Stage::Gate(With::Rules),
    ),
];

const LEGACY: Path = dataplane(Era::Legacy, Era::Legacy, With::Nothing);

const fn dataplane(client: Era, upstream: Era, with: With) -> Path {
    Path::Dataplane { client, upstream, with }
}

const fn path(name: &'static str, about: &'static str, path: Path) -> Case {
    Case { name, about, subject: Subject::Path(path), is_logged: true }
}

const fn stage(name: &'static str, about: &'static str, stage: Stage) -> Case {
    Case { name, about, subject: Subject::Stage(stage), is_logged: true }
}

#[must_use]
pub fn by_name(name: &str) -> Option<Case> {
    ALL.into_iter().find(|case| case.name == name)
}

// === impl Case ===

impl Case {
    /// # Errors
    /// When its world does not start.
    pub fn start(&self, access: &AccessLog) -> anyhow::Result<Running> {
        Ok(match self.subject {
            Subject::Path(path) => Running::Path(Box::new(path.start(access)?)),
            Subject::Stage(stage) => Running::Stage(Box::new(stage.start(access)?)),
        })
    }

    /// Whether what it allocates is the same each time: not where another thread writes records as they come.
    #[must_use]
    pub fn allocates_alike(&self) -> bool {
        !matches!(self.subject, Subject::Path(Path::Dataplane { with: With::Audit, .. }))
    }

    /// Whether all of it is done by the thread that asks for it.
    #[must_use]
    pub fn is_stage(&self) -> bool {
        matches!(self.subject, Subject::Stage(_))
    }
}

// === impl Running ===

impl Running {
    /// As often as that, one after the other.
    ///
    /// # Errors
    /// When a call is answered otherwise than it should be.
    pub fn run(&mut self, calls: usize) -> anyhow::Result<()> {
        match self {
            Self::Path(caller) => (0..calls).try_for_each(|_| caller.call()),
            Self::Stage(ready) => ready.run(calls),
        }
    }
}
