//! What must be true of a data plane that was killed: of its disk, and of what the next start serves and shows.

use std::time::Instant;

use anyhow::Context as _;

use super::disk::DiskState;
use super::{Running, SETTLE, Suite};
use crate::support::http::Ask;
use crate::support::process::address;
use crate::support::world::initialize;

impl Suite {
    /// What is served is one whole version, and no other.
    pub(super) async fn check_serves(&self, running: &Running, version: u64) -> anyhow::Result<()> {
        let mcp = address(&running.listening, "mcp");
        let answer = Ask::mcp(mcp, &format!("/mcp/v{version}"), &initialize()).send().await;
        anyhow::ensure!(answer.status == 200, "version {version} is not served: {}", answer.text());
        anyhow::ensure!(self.ready(running).await, "it serves and says that it is not ready");
        let config = self.admin(running, "/config").await;
        let digest = self.issued.get(&version).map(|issued| issued.digest.as_str());
        let applied = &config["applied"];
        anyhow::ensure!(
            applied["version"] == version && applied["digest"].as_str() == digest,
            "version {version} is served, and this is shown: {applied}"
        );
        let mounts = self.admin(running, "/mounts").await;
        let names: Vec<_> =
            mounts["mounts"].as_array().into_iter().flatten().map(|mount| &mount["name"]).collect();
        anyhow::ensure!(names == ["up", &format!("v{version}")], "mounts of version {version} are {names:?}");
        Ok(())
    }

    /// What attempts leave out is shown, each by its version.
    pub(super) async fn check_reported(&self, running: &Running, disk: &DiskState) -> anyhow::Result<()> {
        let config = self.admin(running, "/config").await;
        let findings = config["last_known_good"]["findings"].as_array().cloned().unwrap_or_default();
        for generation in disk.generations.iter().filter(|generation| disk.is_left_out(&generation.digest)) {
            let shown = findings.iter().any(|finding| {
                finding["kind"] == "crash_looping" && finding["revision"]["version"] == generation.version
            });
            anyhow::ensure!(
                shown,
                "version {} is left out, and this is shown: {findings:?}",
                generation.version
            );
        }
        Ok(())
    }

    /// What is on disk against what control was told and what was there before.
    pub(super) fn check_disk(&mut self, killed: Instant, applied: u64) -> anyhow::Result<()> {
        let disk = DiskState::read(&self.state_dir)?;
        let newest = disk.generations.first().map_or(0, |generation| generation.version);
        anyhow::ensure!(
            newest >= self.healthy,
            "version {} was acknowledged as healthy, and the newest on disk is {newest}",
            self.healthy
        );
        anyhow::ensure!(disk.generations.len() <= 4, "more than three generations and one in the making");
        for generation in &disk.generations {
            let issued =
                self.issued.get(&generation.version).context("a version that control does not have")?;
            anyhow::ensure!(
                issued.digest == generation.digest,
                "version {newest} has another digest on disk"
            );
            let age = killed.duration_since(issued.at);
            anyhow::ensure!(
                age >= SETTLE,
                "version {} was kept {age:?} after it was pushed",
                generation.version
            );
        }
        // Whatever was swapped in left its mark before, or has settled since.
        let accounted = applied == 0
            || self
                .issued
                .range(applied..)
                .any(|(_, issued)| disk.has(&issued.digest) || disk.unfinished(&issued.digest) > 0)
            || newest >= applied;
        anyhow::ensure!(
            accounted,
            "version {applied} was applied, did not settle, and left no mark: {disk:?}"
        );
        // One process has one start of each config, so what is left out was killed as often as its count says.
        for (digest, count) in &disk.unfinished {
            let before = self.unfinished.get(digest).copied().unwrap_or(0);
            anyhow::ensure!(
                *count <= before + 1,
                "one start raised the attempts of {digest} from {before} to {count}"
            );
        }
        self.unfinished = disk.unfinished;
        Ok(())
    }
}
