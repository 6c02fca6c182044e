//! Durations with units: `500ms`, `5s`, `1m30s`, `2h`. One spelling for each length of time when written.

use std::time::Duration;

/// Largest unit first, as they must follow each other.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads whole numbers with units, each unit at most once and the larger one first.
///
/// # Errors
/// One lower-case sentence without the text itself.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    if text.is_empty() {
        return Err("the duration is empty");
    }
    let mut total_ms: u64 = 0;
    let mut rest = text;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err("a duration is a whole number and a unit");
        }
        if unit.is_empty() {
            return Err(if after.starts_with('.') {
                "a duration has no fraction"
            } else {
                "the duration has no unit"
            });
        }
        let Some(index) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(if UNITS.iter().any(|(name, _)| *name == unit) {
                "the units of a duration must go from large to small, each at most once"
            } else {
                "the duration has an unknown unit"
            });
        };
        let unit_ms = units.get(index).map_or(0, |(_, ms)| *ms);
        units = units.get(index + 1..).unwrap_or_default();
        let number: u64 = number.parse().map_err(|_| "the duration is too long")?;
        let part = number.checked_mul(unit_ms).ok_or("the duration is too long")?;
        total_ms = total_ms.checked_add(part).ok_or("the duration is too long")?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// The one spelling: `1m30s` for ninety seconds, however it was written.
pub(crate) fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let number = rest / unit_ms;
        if number > 0 {
            text.push_str(&number.to_string());
            text.push_str(unit);
        }
        rest %= unit_ms;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_length_of_time_is_written_alike() {
        for (text, canonical) in [
            ("5000ms", "5s"),
            ("5s", "5s"),
            ("90s", "1m30s"),
            ("1m30s", "1m30s"),
            ("60m", "1h"),
            ("1h500ms", "1h500ms"),
            ("0ms", "0s"),
        ] {
            assert_eq!(format(parse(text).unwrap()), canonical, "{text}");
        }
    }

    #[test]
    fn a_duration_without_unit_with_fraction_or_in_disorder_is_refused() {
        for text in
            ["", "5", "s", "1.5s", "5 s", "-5s", "5s1m", "5s5s", "5d", "5S", "99999999999999999999h", "5s3"]
        {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
