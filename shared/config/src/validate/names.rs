//! Names that operators choose, and what they may have meant.

use ostler_core::name::{NameError, ResourceName};

use crate::codes::Code;
use crate::de::did_you_mean;
use crate::located::Located;
use crate::reporter::Reporter;

use super::values::shown;

/// The name, if it follows the pattern; `what` is what it names, with its article.
pub(super) fn resource(name: &Located<String>, what: &str, reporter: &Reporter<'_>) -> Option<ResourceName> {
    let text = name.value.as_deref()?;
    match ResourceName::parse(text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let message = match error {
                NameError::Empty { .. } => format!("the name of {what} is empty"),
                NameError::TooLong { len, max, .. } => {
                    format!("the name of {what} has {len} characters; the longest allowed is {max}")
                }
                NameError::Pattern { .. } => format!("`{}` cannot be the name of {what}", shown(text)),
            };
            let rule = "lower-case letters, digits, `-` and `_`, starting and ending with a letter or digit, without `__`";
            let help = match corrected(text) {
                Some(better) => format!("write `{better}`; names have {rule}"),
                None => format!("names have {rule}"),
            };
            reporter.report(Code::BadName, name.at, message, help);
            None
        }
    }
}

/// What to do about a name that leads nowhere.
pub(super) fn suggestion<'a>(text: &str, known: impl Iterator<Item = &'a str> + Clone, what: &str) -> String {
    const LISTED_MAX: usize = 10;
    if let Some(word) = did_you_mean(text, known.clone()) {
        return format!("did you mean `{word}`?");
    }
    let listed: Vec<_> = known.clone().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    let more = known.count().saturating_sub(listed.len());
    match (listed.is_empty(), more) {
        (true, _) => format!("the config has no {what}; add one"),
        (false, 0) => format!("the {what} are {}", listed.join(", ")),
        (false, more) => format!("the {what} are {} and {more} more", listed.join(", ")),
    }
}

/// The nearest text that follows the pattern.
fn corrected(text: &str) -> Option<ResourceName> {
    let mut better = String::new();
    for character in text.chars().take(63) {
        let character = character.to_ascii_lowercase();
        let legal =
            character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '_');
        let character = if legal { character } else { '-' };
        if !(matches!(character, '-' | '_') && better.ends_with(['-', '_'])) {
            better.push(character);
        }
    }
    ResourceName::parse(better.trim_matches(['-', '_'])).ok()
}
