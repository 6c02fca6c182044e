//! Which build this is, as shown in `--version`, in `hello` and in metrics, and how builds compare.

use std::str::FromStr;

/// Semantic version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What a data plane calls itself where it asks over HTTP in its own name.
pub const USER_AGENT: &str = concat!("ostler/", env!("CARGO_PKG_VERSION"));

/// A semantic version, as far as an order of releases needs it: a pre-release comes before its release, and two
/// pre-releases of one release count as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Build {
    numbers: [u64; 3],
    is_release: bool,
}

/// Not `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a build is written as major.minor.patch")]
pub struct BuildError;

// === impl Build ===

impl FromStr for Build {
    type Err = BuildError;

    /// Semantic Versioning 2.0.0, sections 2, 9 and 10.
    fn from_str(text: &str) -> Result<Self, BuildError> {
        let release = text.split_once('+').map_or(text, |(release, _metadata)| release);
        let (release, pre) =
            release.split_once('-').map_or((release, None), |(release, pre)| (release, Some(pre)));
        let mut numbers = [0; 3];
        let mut given = release.split('.');
        for number in &mut numbers {
            let digits = given.next().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            *number = digits.and_then(|digits| digits.parse().ok()).ok_or(BuildError)?;
        }
        match given.next() {
            Some(_) => Err(BuildError),
            None => Ok(Self { numbers, is_release: pre.is_none() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> Build {
        text.parse().unwrap()
    }

    #[test]
    fn builds_are_ordered_by_number_and_not_by_letter() {
        let ascending = ["0.9.9", "0.10.0-rc.1", "0.10.0", "0.10.1", "1.0.0", "10.0.0"];
        for pair in ascending.windows(2) {
            assert!(build(pair[0]) < build(pair[1]), "{pair:?}");
        }
        assert_eq!(build("1.2.3+a"), build("1.2.3+b"));
        assert!(build(VERSION) >= build("0.0.0"));
    }

    #[test]
    fn what_is_no_build_is_refused() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "1.2.x",
            "1..3",
            "-1.0.0",
            "+1.0.0",
            "99999999999999999999.0.0",
        ] {
            assert_eq!(text.parse::<Build>(), Err(BuildError), "{text}");
        }
    }
}
