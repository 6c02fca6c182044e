//! Versions grow within one lineage `{source, fleet, epoch}`. What is refused here would move a data plane backwards or
//! give one version two meanings.

use super::Revision;

/// A candidate that does not follow what is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    #[error(
        "version {offered} is older than the applied version {held}; push its content as a new version (`ostler rollback`)"
    )]
    OlderVersion { offered: u64, held: u64 },
    #[error(
        "epoch {offered} is older than the applied epoch {held}; the store was restored from an older backup, run `ostler control new-epoch`"
    )]
    OlderEpoch { offered: u64, held: u64 },
    #[error(
        "version {version} was applied with another content (digest {held}, offered {offered}); two control stores use one epoch, run `ostler control new-epoch` on the right one"
    )]
    DigestConflict { version: u64, held: String, offered: String },
}

impl LineageError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::OlderVersion { .. } => "older_version",
            Self::OlderEpoch { .. } => "older_epoch",
            Self::DigestConflict { .. } => "digest_conflict",
        }
    }
}

/// What a candidate is to the config held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Another lineage, or a later version of this one.
    Forward,
    /// Exactly what is held.
    Same,
}

/// Judges the step from what is held to what is offered.
pub(super) fn judge(held: Option<&Revision>, offered: &Revision) -> Result<Step, LineageError> {
    let Some(held) = held.filter(|held| held.source == offered.source && held.fleet == offered.fleet) else {
        return Ok(Step::Forward);
    };
    if offered.epoch < held.epoch {
        return Err(LineageError::OlderEpoch { offered: offered.epoch, held: held.epoch });
    }
    if offered.epoch > held.epoch || offered.version > held.version {
        return Ok(Step::Forward);
    }
    if offered.version < held.version {
        return Err(LineageError::OlderVersion { offered: offered.version, held: held.version });
    }
    if offered.digest != held.digest {
        return Err(LineageError::DigestConflict {
            version: held.version,
            held: held.digest.to_hex(),
            offered: offered.digest.to_hex(),
        });
    }
    Ok(Step::Same)
}

#[cfg(test)]
mod tests {
    use ostler_core::digest::Digest;
    use ostler_core::name::FleetName;

    use super::*;
    use crate::apply::Source;

    fn revision(source: Source, fleet: &str, epoch: u64, version: u64, content: &str) -> Revision {
        let fleet = FleetName::parse(fleet).unwrap();
        Revision { source, fleet, epoch, version, digest: Digest::of(content.as_bytes()) }
    }

    #[test]
    fn versions_and_epochs_only_grow_within_a_lineage() {
        let held = revision(Source::Control, "default", 10, 5, "a");
        let judge = |epoch, version, content: &str| {
            judge(Some(&held), &revision(Source::Control, "default", epoch, version, content))
        };
        assert_eq!(judge(10, 6, "b"), Ok(Step::Forward));
        assert_eq!(judge(10, 5, "a"), Ok(Step::Same));
        assert_eq!(judge(11, 1, "b"), Ok(Step::Forward));
        assert_eq!(judge(10, 4, "b").unwrap_err().code(), "older_version");
        assert_eq!(judge(9, 99, "b").unwrap_err().code(), "older_epoch");
        assert_eq!(judge(10, 5, "b").unwrap_err().code(), "digest_conflict");
    }

    #[test]
    fn another_source_or_fleet_is_a_new_lineage() {
        let held = revision(Source::Control, "default", 10, 5, "a");
        for other in
            [revision(Source::File, "default", 0, 1, "b"), revision(Source::Control, "eu", 1, 1, "b")]
        {
            assert_eq!(super::judge(Some(&held), &other), Ok(Step::Forward));
        }
        assert_eq!(super::judge(None, &held), Ok(Step::Forward));
    }
}
