//! Lists of patterns with `*` and `?`, for `--allow-command`, `--allow-ref` and `--allow-listen`.
//!
//! A pattern is matched against the whole text. `*` stands for any characters, `/` included, so text with a `..` step
//! matches only `*` itself: otherwise `/opt/tools/*` would allow `/opt/tools/../../bin/sh`.

use std::fmt;
use std::str::FromStr;

use ostler_core::glob;

/// Nothing in it allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GlobList(Vec<String>);

/// Why a pattern was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    #[error("a pattern is empty; write `*` to allow everything, or leave the flag out")]
    Empty,
    #[error("a pattern holds a control character; remove it")]
    Control,
}

// === impl GlobList ===

impl GlobList {
    /// Allows everything.
    pub fn any() -> Self {
        Self(vec!["*".to_owned()])
    }

    /// Allows nothing.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// # Errors
    /// [`GlobError`] for the first pattern that cannot be meant.
    pub fn parse<I>(patterns: I) -> Result<Self, GlobError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        patterns
            .into_iter()
            .map(|pattern| {
                let pattern = pattern.as_ref().trim();
                if pattern.is_empty() {
                    Err(GlobError::Empty)
                } else if pattern.chars().any(char::is_control) {
                    Err(GlobError::Control)
                } else {
                    Ok(pattern.to_owned())
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn matches(&self, text: &str) -> bool {
        let climbs = text.split(['/', '\\']).any(|step| step == "..");
        self.0.iter().any(|pattern| if climbs { pattern == "*" } else { glob::matches(pattern, text) })
    }

    /// Whether everything is allowed.
    pub fn allows_everything(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for GlobList {
    type Err = GlobError;

    /// Patterns separated by commas, as in an environment variable.
    fn from_str(text: &str) -> Result<Self, GlobError> {
        Self::parse(text.split(','))
    }
}

impl fmt::Display for GlobList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> GlobList {
        GlobList::parse(patterns).unwrap()
    }

    #[test]
    fn stars_and_question_marks_match_the_whole_text() {
        for (pattern, text) in [
            ("*", ""),
            ("npx", "npx"),
            ("*_TOKEN", "GITHUB_TOKEN"),
            ("file:/run/secrets/*", "file:/run/secrets/a/b"),
            ("a?c", "abc"),
            ("*a*b*", "xxaxxbxx"),
        ] {
            assert!(list(&[pattern]).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("npx", "npx2"), ("npx", "/bin/npx"), ("a?c", "ac"), ("*_TOKEN", "TOKEN"), ("a*", "ba")]
        {
            assert!(!list(&[pattern]).matches(text), "{pattern} {text}");
        }
        assert!(!GlobList::none().matches("npx"));
        assert!(list(&["a", "npx"]).matches("npx"));
    }

    #[test]
    fn a_step_upwards_matches_nothing_but_everything() {
        assert!(!list(&["/opt/tools/*"]).matches("/opt/tools/../../bin/sh"));
        assert!(GlobList::any().matches("../server"));
    }

    #[test]
    fn an_empty_pattern_is_refused() {
        assert_eq!(GlobList::parse([""]), Err(GlobError::Empty));
        assert_eq!("npx,".parse::<GlobList>(), Err(GlobError::Empty));
    }
}
