//! The state folder of a data plane that is gone, read without the data plane's own code, and what must follow from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use ostler_core::digest::Digest;
use serde_json::Value;

/// Unfinished starts after which a config is left out, by DESIGN.
const UNFINISHED_MAX_NEW: u64 = 1;
const UNFINISHED_MAX_PROVEN: u64 = 3;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// Newest first.
    pub(super) generations: Vec<Generation>,
    /// Unfinished starts by digest.
    pub(super) unfinished: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) version: u64,
    pub(super) digest: String,
    kept_order: u64,
}

/// What a data plane must do at start, with nobody to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// There is nothing.
    Nothing,
    Serves(u64),
    /// Everything was left out; this one is tried again, later.
    TriesAgain(u64),
}

impl DiskState {
    /// # Errors
    /// When a file under a generation's name is not whole: a process that is killed leaves none.
    pub(super) fn read(state_dir: &Path) -> anyhow::Result<Self> {
        let folder = state_dir.join("generations");
        let mut state = Self::default();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "ostler") {
                let name = path.display().to_string();
                state.generations.push(generation(&path).with_context(|| format!("{name} is not whole"))?);
            }
        }
        state.generations.sort_by_key(|generation| std::cmp::Reverse(generation.kept_order));
        if let Ok(bytes) = fs::read(folder.join("attempts.json")) {
            let marks: Value = serde_json::from_slice(&bytes).context("attempts.json is not whole")?;
            for (digest, mark) in marks["configs"].as_object().context("attempts.json has no marks")? {
                state.unfinished.insert(digest.clone(), mark["unfinished"].as_u64().unwrap_or(0));
            }
        }
        Ok(state)
    }

    pub(super) fn has(&self, digest: &str) -> bool {
        self.generations.iter().any(|generation| generation.digest == digest)
    }

    pub(super) fn unfinished(&self, digest: &str) -> u64 {
        self.unfinished.get(digest).copied().unwrap_or(0)
    }

    /// Whether a config must be refused here.
    pub(super) fn is_left_out(&self, digest: &str) -> bool {
        let max = if self.has(digest) { UNFINISHED_MAX_PROVEN } else { UNFINISHED_MAX_NEW };
        self.unfinished(digest) >= max
    }

    pub(super) fn left_out(&self) -> usize {
        self.generations.iter().filter(|generation| self.is_left_out(&generation.digest)).count()
    }

    pub(super) fn expected(&self) -> Expected {
        let usable = self.generations.iter().find(|generation| !self.is_left_out(&generation.digest));
        match (usable, self.generations.first()) {
            (Some(usable), _) => Expected::Serves(usable.version),
            (None, Some(newest)) => Expected::TriesAgain(newest.version),
            (None, None) => Expected::Nothing,
        }
    }
}

fn generation(path: &Path) -> anyhow::Result<Generation> {
    let bytes = fs::read(path)?;
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (header, seal, body) = (lines.next(), lines.next(), lines.next());
    let (header, seal, body) =
        (header.context("no header")?, seal.context("no seal")?, body.context("no body")?);
    anyhow::ensure!(Digest::of(header).to_hex().as_bytes() == seal, "the header is damaged");
    let header: Value = serde_json::from_slice(header)?;
    anyhow::ensure!(header["body_bytes"] == body.len(), "the body is cut");
    anyhow::ensure!(header["body_sha256"] == Digest::of(body).to_hex(), "the body is damaged");
    let revision = &header["revision"];
    Ok(Generation {
        version: revision["version"].as_u64().context("no version")?,
        digest: revision["digest"].as_str().context("no digest")?.to_owned(),
        kept_order: header["kept_order"].as_u64().context("no order")?,
    })
}
