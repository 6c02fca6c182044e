//! A watch against a real folder: what may happen to a file, by events alone and by polling alone.
//!
//! Polling runs on paused time, so that its times are exact. Deadlines in real time are coarse: they only keep a defect
//! from hanging the run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod bursts;
mod events;
mod matrix;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_core::limits::WATCH_POLL;
use ostler_watch::{FileWatch, NoEvents, SystemEvents};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than any test: as good as never.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Events,
    Polling,
}

/// A folder with a file `ostler.yaml` that says `one`, and a watch that knows it.
struct Scene {
    dir: TempDir,
    watch: FileWatch,
}

impl Scene {
    fn new(by: By) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf")).unwrap();
        let path = dir.path().join("conf/ostler.yaml");
        fs::write(&path, "one").unwrap();
        let watch = watch(&path, by);
        Self { dir, watch }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("conf")
    }

    fn path(&self) -> PathBuf {
        self.watch.path().to_owned()
    }

    /// Puts a whole new file in place of the old one.
    fn replace(&self, content: &str) {
        let new = self.folder().join(".new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, self.path()).unwrap();
    }

    async fn next(&mut self) -> Result<String, String> {
        let patience = if self.watch.has_events() { Duration::from_secs(60) } else { NEVER };
        let content = timeout(patience, self.watch.changed()).await.expect("no change was seen");
        content.map(|content| String::from_utf8(content).unwrap())
    }
}

fn watch(path: &Path, by: By) -> FileWatch {
    match by {
        By::Events => {
            let watch = FileWatch::by(path, Some(b"one"), Box::new(SystemEvents::default()), NEVER);
            assert!(watch.has_events());
            watch
        }
        By::Polling => FileWatch::by(path, Some(b"one"), Box::new(NoEvents), WATCH_POLL),
    }
}
